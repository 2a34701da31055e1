// Floor 4, used by net.cpp alone. Places buffers with known lifetimes in one arena.
#pragma once

#include <cstdint>
#include <vector>

namespace crema {

// A buffer that must hold its contents from time `begin` to time `end`, both included.
struct Lifetime {
  int64_t bytes = 0, begin = 0, end = 0;
  int64_t offset = -1;  // set by PlaceBuffers
};

// Gives each buffer an offset such that buffers alive at the same time do not overlap: the largest first,
// each at the lowest place that is free during its life. Returns the size of the arena.
int64_t PlaceBuffers(std::vector<Lifetime>* buffers);

}  // namespace crema
