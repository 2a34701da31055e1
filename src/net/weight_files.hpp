// Floor 4. Weights of a file for a net that was made for them.
#pragma once

#include <string>
#include <vector>

#include "crema/net.hpp"

namespace crema {

// Net::CopyWeights, where it is an Error that none of the layers is in the net. `from` is the file.
std::vector<std::string> CopyFittingWeights(const NetParameter& weights, const std::string& from, Net* net);

}  // namespace crema
