// The agent of the cases (clients/cases/README.md): does with this package what it is told on standard input, one JSON
// object a line, and answers on standard output. One goroutine.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"runrecorder"
)

const maxCommandBytes = 64 << 20

type command struct {
	Do          string          `json:"do"`
	Socket      string          `json:"socket"`
	BufferBytes int             `json:"buffer_bytes"`
	FlushMs     int             `json:"flush_ms"`
	Type        string          `json:"type"`
	RunID       json.RawMessage `json:"run_id"`
	Fields      json.RawMessage `json:"fields"`
	Council     json.RawMessage `json:"council"`
	Outcome     string          `json:"outcome"`
	Result      json.RawMessage `json:"result"`
	Message     string          `json:"message"`
	First       int             `json:"first"`
	Count       int             `json:"count"`
	TimeoutMs   int             `json:"timeout_ms"`
}

type answer map[string]any

// agent has one client at a time.
type agent struct {
	recorder *runrecorder.Recorder
}

func main() {
	log.SetOutput(os.Stderr)
	a := &agent{}
	defer func() { _ = a.recorder.Close(context.Background()) }() // as every program with this client does
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, maxCommandBytes)
	output := json.NewEncoder(os.Stdout)
	output.SetEscapeHTML(false)
	for input.Scan() {
		var what command
		if err := decode(input.Bytes(), &what); err != nil {
			log.Fatalf("not a command: %v", err)
		}
		if what.Do == "exit" {
			os.Exit(0) // runs no deferred function
		}
		if err := output.Encode(a.do(what)); err != nil {
			return
		}
	}
}

func decode(text []byte, to any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(to)
}

func (a *agent) do(what command) any {
	switch what.Do {
	case "open":
		a.recorder = runrecorder.New(runrecorder.Options{Socket: what.Socket, BufferBytes: what.BufferBytes,
			FlushTimeout: time.Duration(what.FlushMs) * time.Millisecond})
	case "event":
		fields, skipped := fieldsOf(what.Fields)
		if skipped != nil {
			return skipped
		}
		a.recorder.Event(textOf(what.RunID), what.Type, fields)
	case "run":
		return a.run(what)
	case "jobs":
		a.jobs(what)
	case "events":
		return a.events(what)
	case "stats":
		return a.recorder.Stats()
	case "flush":
		limited, cancel := context.WithTimeout(context.Background(), time.Duration(what.TimeoutMs)*time.Millisecond)
		defer cancel()
		return answer{"flushed": a.recorder.Flush(limited) == nil}
	case "fork":
		return answer{"skipped": "a Go program does not fork: what it starts is another program"}
	case "close":
		_ = a.recorder.Close(context.Background())
	default:
		return answer{"skipped": fmt.Sprintf("no such command: %q", what.Do)}
	}
	return answer{}
}
