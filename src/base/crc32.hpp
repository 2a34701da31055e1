// Floor 0. CRC-32 as in zlib, gzip and PNG (polynomial 0xEDB88320, reflected). Anyone may call it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crema {

// Of `size` bytes, going on from the checksum of the bytes before them; 0 at the start.
uint32_t Crc32(const void* bytes, size_t size, uint32_t before = 0);

}  // namespace crema
