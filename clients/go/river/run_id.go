package river

// The ids of a job's runs, so that a run names the one before. Pure.

import (
	"fmt"
	"strconv"

	"github.com/riverqueue/river/rivertype"
)

// River appends to attempted_by at each claim, and keeps the last 100.
const maxCountedExecutions = 100

// RunID is the id of the run of this execution, the same wherever it is asked for: by the job's id, the time when it was
// inserted (job ids repeat between databases) and the number of the execution, which other than the attempt never
// comes back. Empty where the executions are too many to be counted; such a run gets a UUID.
func RunID(job *rivertype.JobRow) string {
	execution := len(job.AttemptedBy)
	if execution < 1 || execution >= maxCountedExecutions {
		return ""
	}
	return runID(job, execution)
}

// parentID is the execution before, or the first one where they are too many; empty for the first one.
func parentID(job *rivertype.JobRow) string {
	switch execution := len(job.AttemptedBy); {
	case execution <= 1:
		return ""
	case execution > maxCountedExecutions-1:
		return runID(job, 1)
	default:
		return runID(job, execution-1)
	}
}

func runID(job *rivertype.JobRow, execution int) string {
	inserted := strconv.FormatInt(job.CreatedAt.UnixMicro(), 36)
	return fmt.Sprintf("river-%d-%s-%d", job.ID, inserted, execution)
}
