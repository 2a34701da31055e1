// Floor 0. Reads and writes at a place of an open file, until all of it has gone. Called by files of class
// centres and by memory that lies in files.
#pragma once

#include <cstdint>

namespace crema {

// Returns how many bytes did, fewer where the file ends or takes no more, with errno 0, or where the system
// refuses, with its errno.
int64_t ReadAllAt(int file, void* to, int64_t bytes, int64_t at);
int64_t WriteAllAt(int file, const void* from, int64_t bytes, int64_t at);

}  // namespace crema
