module runrecorder

go 1.19
