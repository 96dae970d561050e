# frozen_string_literal: true

module RunRecorder
  # Texts that any JSON parser takes: valid UTF-8 without NUL, cut to a limit where there is one. Pure functions, any thread.
  module Text
    REPLACEMENT = "\uFFFD"
    TEXT_CHARS = 1000 # of an object that is only known by its text

    module_function

    # The same text where it is clean already, else a copy.
    def clean(text)
      text = utf8(text)
      text = text.scrub(REPLACEMENT) unless text.valid_encoding?
      text = text.tr("\0", REPLACEMENT) if text.include?("\0")
      text.instance_of?(String) ? text : String.new(text)
    end

    # The first `limit` bytes, cut at a character's boundary.
    def cut(text, limit)
      text.bytesize <= limit ? text : text.byteslice(0, limit).scrub("")
    end

    # Any object as a text of at most `chars` characters; "[unreadable: …]" where it raises.
    def of(value, chars = TEXT_CHARS)
      text = String === value ? value : value.to_s
      text = text.byteslice(0, chars * 4) if text.bytesize > chars * 4
      clean(text)[0, chars]
    rescue Unreadable => e
      unreadable(e)
    end

    def unreadable(exception)
      "[unreadable: #{clean(exception.class.name || "an exception")}]"
    end

    # Why something failed, without the file that it was about.
    def reason(exception)
      message = clean(exception.message.to_s).lines.first.to_s.chomp
      SystemCallError === exception ? message.sub(/ [-@] .*/, "").downcase : message
    rescue Unreadable => e
      unreadable(e)
    end

    def count(number, thing)
      "#{number} #{thing}#{"s" unless number == 1}"
    end

    # The bytes of a path, whatever its encoding. A copy.
    def path(given)
      text = String === given ? given : given.to_s
      (text.encoding.ascii_compatible? ? text : text.encode(Encoding::UTF_8)).b
    end

    # The bytes of an environment variable, "" where there is none. Ruby may give them in the default internal encoding, or only
    # say so; NULs, of which the environment has none, tell which.
    def environment(name)
      text = ENV[name].to_s
      return text.encode(Encoding.find("locale")).b if text.b.include?("\0") || (text.encoding.ascii_compatible? && converted?(text))

      text.b
    rescue EncodingError
      text.b
    end

    def converted?(text)
      internal = Encoding.default_internal
      internal && text.encoding == internal
    end

    def utf8(text)
      case text.encoding
      when Encoding::UTF_8, Encoding::US_ASCII then text.encoding == Encoding::UTF_8 ? text : as_utf8(text)
      when Encoding::BINARY then as_utf8(text)
      else text.encode(Encoding::UTF_8, invalid: :replace, undef: :replace, replace: REPLACEMENT)
      end
    rescue EncodingError
      as_utf8(text)
    end

    # The same bytes, read as UTF-8.
    def as_utf8(text)
      String.new(text).force_encoding(Encoding::UTF_8)
    end
  end
end
