package runrecorder

// Texts as JSON takes them: valid UTF-8, without NUL, and within a limit where there is one. Pure.

import (
	"strings"
	"unicode/utf8"
)

const (
	replacement = "\uFFFD"
	hexDigits   = "0123456789abcdef"
)

// appendString appends text as a JSON string; invalid UTF-8 and NUL become U+FFFD.
func appendString(to []byte, text string) []byte {
	to = append(to, '"')
	begin := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		width := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, width = utf8.DecodeRuneInString(text[i:]); r != utf8.RuneError || width > 1 {
				i += width
				continue
			}
		}
		to = append(to, text[begin:i]...)
		to = appendEscaped(to, c)
		i += width
		begin = i
	}
	to = append(to, text[begin:]...)
	return append(to, '"')
}

func appendEscaped(to []byte, c byte) []byte {
	switch {
	case c == 0 || c >= utf8.RuneSelf:
		return append(to, replacement...)
	case c == '"' || c == '\\':
		return append(to, '\\', c)
	case c == '\n':
		return append(to, '\\', 'n')
	case c == '\t':
		return append(to, '\\', 't')
	case c == '\r':
		return append(to, '\\', 'r')
	}
	return append(to, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// cleanText is the text that appendString writes.
func cleanText(text string) string {
	if strings.IndexByte(text, 0) < 0 && utf8.ValidString(text) {
		return text
	}
	var clean strings.Builder
	for _, r := range text { // what is invalid comes as U+FFFD, byte by byte
		if r == 0 {
			r = utf8.RuneError
		}
		clean.WriteRune(r)
	}
	return clean.String()
}

// cutBytes cuts a text to so many bytes, cleaned, at a character's boundary. Its cost is bounded by the limit.
func cutBytes(text string, limit int) string {
	if len(text) > limit+utf8.UTFMax {
		text = text[:limit+utf8.UTFMax]
	}
	text = cleanText(text)
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

// cutCharacters cuts a text to so many characters, cleaned. Its cost is bounded by the limit.
func cutCharacters(text string, limit int) string {
	count := 0
	for i := range text {
		if count == limit {
			return cleanText(text[:i])
		}
		count++
	}
	return cleanText(text)
}
