defmodule RunRecorder.ValuesTest do
  # What any term becomes, and what is done to an event's fields.
  use ExUnit.Case, async: true

  alias RunRecorder.{Clock, Decoder, Encoder, Event, Fields, Text}

  defmodule Point do
    defstruct [:x, :__meta__, :owner]
  end

  defmodule Bad do
    defstruct []

    defimpl String.Chars do
      def to_string(_bad), do: raise(KeyError, "no text")
    end
  end

  @sender %{max_event_bytes: 2_000, worker_pid: 42}

  defp json(term), do: Encoder.value("", term, 1_000_000)

  defp becomes(term) do
    {:ok, value} = term |> json() |> Decoder.decode()
    value
  end

  defp event(type, fields, run_id \\ "r1") do
    {class, line, truncated?} = Event.build(@sender, run_id, type, fields, "id-1")
    {:ok, event} = Decoder.decode(line)
    {event, class, truncated?}
  end

  defp fields(type, fields), do: type |> event(fields) |> elem(0) |> Map.drop(~w(type run_id id at worker_pid))

  test "texts are valid UTF-8 without NUL" do
    assert becomes(<<"ab", 255, "cd">>) == "ab\uFFFDcd"
    assert becomes("a\0b") == "a\uFFFDb"
    assert becomes(<<"a", 0xED, 0xA0, 0x80, "b">>) == "a\uFFFD\uFFFD\uFFFDb"
    assert becomes("\u0001\"\\\n\u007F\u2028🚀") == "\u0001\"\\\n\u007F\u2028🚀"
    assert becomes(%{<<255>> => 1}) == %{"\uFFFD" => 1}
  end

  test "numbers keep their value, and become texts where no number may be so long" do
    assert json([1, -2, 2.5, Integer.pow(2, 70)]) == "[1,-2,2.5,1180591620717411303424]"
    assert becomes(Integer.pow(10, 299)) == Integer.pow(10, 299)
    assert becomes(Integer.pow(10, 300)) == "1" <> String.duplicate("0", 299)
    assert becomes(-Integer.pow(10, 400)) == "-1" <> String.duplicate("0", 298)
    assert becomes(Integer.pow(2, 1_000_000)) =~ "bits"

    for integer <- [Integer.pow(3, 700), -Integer.pow(7, 9_000), Integer.pow(10, 30_000) - 1] do
      assert becomes(integer) == binary_part(Integer.to_string(integer), 0, 300)
    end
  end

  test "a huge integer is described in every text" do
    huge = Bitwise.bsl(1, 200_000)
    bits = ~r/an integer of about \d+ bits/

    for term <- [huge, -huge, %{huge => 1}, MapSet.new([huge]), 1..huge, ~D[2026-01-02] |> Map.put(:year, huge)] do
      assert json(term) =~ ~r/#{bits.source}|unreadable/
    end

    for term <- [huge, [1, huge], [1 | huge], {huge}, %{a: huge}, %{huge => 1}, %Point{x: huge}] do
      assert Text.of(term) =~ bits
      assert Text.exit_reason({:shutdown, term}) =~ bits
      assert Text.message(%MatchError{term: term}) =~ bits
      assert becomes(%KeyError{key: term, term: []})["message"] =~ bits
      assert fields("run_started", council: term)["council"] =~ bits
      assert Fields.run_id(term) =~ bits
      assert Fields.type(term) =~ "an_integer_of_about"

      {event, :lifecycle, true} =
        event("run_failed", errors: [%MatchError{term: term}], result: String.duplicate("x", 2_000))

      assert hd(event["errors"])["message"] =~ bits
    end

    assert %URI{path: huge} |> json() |> is_binary()
  end

  test "terms without huge integers are read as they are" do
    large = {String.duplicate("x", 20_000), Enum.to_list(1..20_000), %{1 => [a: 1.5]}, [1 | 2], %Point{x: 1}}
    assert Text.bounded(large) === large and Text.bounded(large, :infinity) === large
    assert Text.message(%RuntimeError{message: String.duplicate("x", 20_000)}) == String.duplicate("x", 20_000)
  end

  test "terms of the language become what its users expect" do
    assert becomes([nil, true, :ok, Enum, {:error, "no"}]) == [nil, true, "ok", "Enum", ["error", "no"]]
    assert becomes(a: 1, b: 2, a: 3) == %{"a" => 3, "b" => 2}
    assert becomes([1 | 2]) == [1, 2]
    assert becomes(%{1 => "first", "1" => "second"}) == %{"1" => "second"}
    assert becomes(MapSet.new([1])) == [1]
    assert becomes(~D[2026-01-02]) == "2026-01-02"
    assert becomes(~U[2026-01-02 03:04:05.000001Z]) == "2026-01-02T03:04:05.000001Z"
    assert becomes(%RuntimeError{message: "x"}) == %{"kind" => "RuntimeError", "message" => "x"}
    assert becomes(%Point{x: 1, owner: URI.parse("http://h/")}) == %{"x" => 1, "owner" => "http://h/"}
    assert becomes(self()) =~ "#PID"
    assert becomes(<<1::3>>) == "<<1::size(3)>>"
  end

  test "what raises is said in its place" do
    assert becomes(%{bad: %Bad{}, good: 1}) == %{"bad" => "[unreadable: KeyError]", "good" => 1}

    assert becomes(%DateTime{(Map.from_struct(~U[2026-01-02 03:04:05Z]) |> then(&struct(DateTime, &1))) | year: nil}) =~
             "[unreadable"
  end

  test "what is too deep ends in words" do
    deep = Enum.reduce(1..100, 0, fn _level, inner -> [inner] end)
    assert json(deep) == String.duplicate("[", 60) <> "\"[too deep]\"" <> String.duplicate("]", 60)
    refute json(Enum.reduce(2..59, [], fn _level, inner -> [inner] end)) =~ "too deep"
  end

  test "a value that is too large is not written to its end" do
    endless = Stream.iterate("x", & &1) |> Enum.take(1_000)
    assert catch_throw(Encoder.value("", endless, 100)) == :too_large
    assert catch_throw(Encoder.value("", String.duplicate("x", 101), 100)) == :too_large
  end

  test "an event has a header, and no nulls but in input and result" do
    {event, :lifecycle, false} = event("run_started", %{council: "c", input: nil, attempt: nil})
    assert %{"type" => "run_started", "run_id" => "r1", "id" => "id-1", "worker_pid" => 42, "input" => nil} = event
    assert event["at"] =~ ~r/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\z/
    refute Map.has_key?(event, "attempt")
  end

  test "times are those of the calendar" do
    for time <- [~U[1970-01-01 00:00:00.000000Z], ~U[2024-02-29 23:59:59.999999Z], ~U[1969-12-31 23:59:59.000001Z]] do
      assert time |> DateTime.to_unix(:microsecond) |> Clock.rfc3339() == DateTime.to_iso8601(time)
    end
  end

  test "an event of a run that somebody else works on names no process" do
    for type <- ~w(run_queued run_heartbeat run_lost), do: refute(Map.has_key?(elem(event(type, %{}), 0), "worker_pid"))
    refute Map.has_key?(elem(event("run_started", %{worker_pid: nil}), 0), "worker_pid")
    assert elem(event("run_started", %{worker_pid: 7}), 0)["worker_pid"] == 7
  end

  test "fields are made such that the daemon takes them" do
    assert fields("run_started", council: String.duplicate("é", 200))["council"] == String.duplicate("é", 127)
    assert fields("run_started", council: Enum, queue: "", job_id: 7) == %{"council" => "Enum", "job_id" => 7}
    assert fields("run_started", attempt: 0, oban_job_id: Integer.pow(2, 63), expires_in: 2_678_401) == %{}
    assert fields("x", usage: %{a: 1, b: "2"}, progress: %{done: "1"}) == %{"usage" => %{"a" => 1}}
    assert fields("x", progress: %{done: 1, total: nil, unit: ""}) == %{"progress" => %{"done" => 1}}
    assert fields("x", payload: [1]) == %{"payload" => %{"value" => [1]}}
    assert fields("run_failed", errors: :timeout) == %{"errors" => ["timeout"]}
    assert fields("run_failed", errors: [%RuntimeError{message: "m"}, kind: "k"])["errors"] |> length() == 2
    assert fields("run_lost", message: :gone) == %{"message" => "gone"}
    assert fields("x", :no_fields) == %{}
  end

  test "ids and types are made such that the daemon takes them" do
    assert Fields.run_id(nil) == nil and Fields.run_id("") == nil and Fields.run_id(7) == "7"
    long = Fields.run_id(String.duplicate("é", 200))
    assert <<_kept::binary-size(200), "~", digest::binary>> = long
    assert digest == binary_part(Base.encode16(:crypto.hash(:sha256, String.duplicate("é", 200)), case: :lower), 0, 32)
    assert Fields.type("Page Done!") == "page_done_"
    assert Fields.type("9") == "event_9" and Fields.type(:row_done) == "row_done"
    assert byte_size(Fields.type(String.duplicate("é", 100))) <= 64
  end

  test "an event that is too large is sent without its values" do
    errors = for number <- 1..20, do: %{kind: "k", message: "m#{number}", stacktrace: String.duplicate("s", 500)}
    {event, :lifecycle, true} = event("run_failed", errors: errors, result: 1, more: 2, job_state: "discarded")
    assert %{"truncated" => true, "job_state" => "discarded"} = event
    assert length(event["errors"]) == 10 and hd(event["errors"]) == %{"kind" => "k", "message" => "m1"}
    refute Map.has_key?(event, "result") or Map.has_key?(event, "more")
  end

  test "an event that was refused is reduced from its line" do
    {_class, line, false} = Event.build(@sender, "r", "run_completed", %{result: 1, usage: %{a: 1.5}}, "i")
    {:ok, reduced} = line |> Event.reduce(2_000) |> Decoder.decode()
    assert reduced["truncated"] and reduced["usage"] == %{"a" => 1.5} and reduced["id"] == "i"
    refute Map.has_key?(reduced, "result")
    assert Event.reduce("no event", 2_000) == :error
  end
end
