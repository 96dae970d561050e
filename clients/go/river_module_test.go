package runrecorder

// The module in river/ needs River's rivertype. Where RUN_RECORDER_RIVER_SOURCES names a checkout of River its tests run
// here, in a copy with that rivertype in place of a download.

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheRiverModule(t *testing.T) {
	sources := os.Getenv("RUN_RECORDER_RIVER_SOURCES")
	if sources == "" {
		t.Skip("RUN_RECORDER_RIVER_SOURCES does not name a checkout of River")
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	copyGo(t, filepath.Join(sources, "rivertype"), filepath.Join(folder, "rivertype"), false)
	copyGo(t, "river", filepath.Join(folder, "river"), true)
	write(t, filepath.Join(folder, "rivertype", "go.mod"), "module github.com/riverqueue/river/rivertype\n\ngo 1.19\n")
	declared, err := os.ReadFile("river/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "river", "go.mod"), strings.Replace(string(declared), "replace runrecorder => ../", fmt.Sprintf(
		"replace runrecorder => %s\n\nreplace github.com/riverqueue/river/rivertype => ../rivertype", here), 1))
	for _, arguments := range [][]string{{"vet", "./..."}, {"test", "-count=1", "./..."}} {
		command := exec.Command("go", arguments...)
		command.Dir = filepath.Join(folder, "river")
		command.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local")
		if text, err := command.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(arguments, " "), err, text)
		}
	}
}

// copyGo copies the Go files of a folder, with or without the tests.
func copyGo(t *testing.T, from, to string, tests bool) {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(from, "*.go"))
	if len(files) == 0 {
		t.Fatalf("%s has no Go files", from)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !tests && strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, filepath.Base(file)), string(text))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
