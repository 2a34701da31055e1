// Floor 4, used by net.cpp and by the plan of a run. Which layers of a NetParameter a net in a given state
// has.
#pragma once

#include "crema/net.hpp"

namespace crema {

// The layers of the upgraded net (crema/caffe_files.hpp) whose include and exclude rules admit the state,
// each with its phase set. Throws Error for a layer with both include and exclude rules.
NetParameter FilterNet(const NetParameter& spec, const NetOptions& options);

}  // namespace crema
