// Keeps the descriptors 0, 1 and 2 reserved for standard input, output and error where the caller has closed them:
// else the next file, pipe or socket gets such a number, and messages for standard error end up in it.
#pragma once

namespace run_recorder {

// Opens those of 0, 1 and 2 that are closed on /dev/null. The first call in main(), before a file is opened or a
// thread started; the log and every other writer may then use the three numbers. Reading such a standard input and
// writing such a standard output still fail with EBADF, because output that nobody gets is no success; what is
// written to such a standard error is discarded. They are closed again on exec(2): a program that is executed finds
// what our caller had left.
void open_standard_streams();

}  // namespace run_recorder
