#include "net/plan.hpp"

#include <algorithm>
#include <numeric>

namespace crema {

namespace {

constexpr int64_t kAlignment = 256;

bool Meet(const Lifetime& a, const Lifetime& b) {
  return a.begin <= b.end && b.begin <= a.end;
}

}  // namespace

int64_t PlaceBuffers(std::vector<Lifetime>* buffers) {
  std::vector<size_t> order(buffers->size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return (*buffers)[a].bytes > (*buffers)[b].bytes; });
  std::vector<Lifetime*> placed;  // sorted by offset
  int64_t total = 0;
  for (size_t index : order) {
    Lifetime& buffer = (*buffers)[index];
    const int64_t size = (buffer.bytes + kAlignment - 1) / kAlignment * kAlignment;
    int64_t offset = 0;
    for (const Lifetime* other : placed) {
      if (!Meet(buffer, *other)) continue;
      if (offset + size <= other->offset) break;
      offset = std::max(offset, (other->offset + other->bytes + kAlignment - 1) / kAlignment * kAlignment);
    }
    buffer.offset = offset;
    total = std::max(total, offset + size);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), &buffer,
                         [](const Lifetime* a, const Lifetime* b) { return a->offset < b->offset; }),
        &buffer);
  }
  return total;
}

}  // namespace crema
