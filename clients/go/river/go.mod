module runrecorder/river

go 1.19

require (
	github.com/riverqueue/river/rivertype v0.19.0
	runrecorder v0.2.0
)

replace runrecorder => ../
