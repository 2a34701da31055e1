#include "base/crc32.hpp"

#include <array>
#include <cstring>

namespace crema {
namespace {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[k][b]: the remainder of byte b followed by k zero bytes, so that eight bytes are taken at once.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t x = b;
    for (int bit = 0; bit < 8; ++bit) x = (x >> 1) ^ (x & 1 ? 0xEDB88320u : 0);
    tables[0][b] = x;
  }
  for (size_t k = 1; k < 8; ++k) {
    for (size_t b = 0; b < 256; ++b)
      tables[k][b] = (tables[k - 1][b] >> 8) ^ tables[0][tables[k - 1][b] & 255];
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

}  // namespace

uint32_t Crc32(const void* bytes, size_t size, uint32_t before) {
  const unsigned char* p = static_cast<const unsigned char*>(bytes);
  uint32_t x = ~before;
  for (; size >= 8; size -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    word ^= x;
    x = 0;
    for (size_t k = 0; k < 8; ++k) x ^= kTables[7 - k][(word >> (8 * k)) & 255];
  }
  for (; size > 0; --size, ++p) x = (x >> 8) ^ kTables[0][(x ^ *p) & 255];
  return ~x;
}

}  // namespace crema
