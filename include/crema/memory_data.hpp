// Floor 4. What a program that embeds Crema hands to a MemoryData layer. Called by embedders:
//   dynamic_cast<MemoryDataFeed&>(*net.layer("data")).Reset(images);
#pragma once

#include <vector>

#include "crema/data.hpp"

namespace crema {

class MemoryDataFeed {
 public:
  virtual ~MemoryDataFeed() = default;
  // The samples of the coming passes, this rank's alone: pass t takes images [t * batch, (t + 1) * batch),
  // from the beginning again behind the last. Throws Error unless they are a multiple of the batch and of the
  // layer's size.
  virtual void Reset(std::vector<Image> images) = 0;
};

}  // namespace crema
