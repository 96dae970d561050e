package runrecorder

// Counts are those of the events of a Recorder. At any time Emitted is the sum of Acknowledged, Refused, Dropped, Kept and
// Waiting.
type Counts struct {
	Emitted      int64 `json:"emitted"`      // calls, and lines that were taken over from earlier files
	Acknowledged int64 `json:"acknowledged"` // the daemon has them on its disk
	Refused      int64 `json:"refused"`      // for good
	Dropped      int64 `json:"dropped"`      // there was no room, or the Recorder was closed
	Kept         int64 `json:"kept"`         // in a file, for the next client
	Waiting      int64 `json:"waiting"`      // in memory
	Truncated    int64 `json:"truncated"`    // sent without their values
}
