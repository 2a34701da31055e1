// Floor 4, used by upgrade.cpp alone. The two steps of an upgrade that deal with layers.
#pragma once

#include <string>
#include <vector>

#include "crema.pb.h"

namespace crema {

// Whether any of the net's `layers` has a `layer` of 2013 in it.
bool HasV0Layers(const NetParameter& net);
// These become layers of 2014. `notes` receives the fields for which there is no place.
void UpgradeV0Layers(NetParameter* net, const std::string& from, std::vector<std::string>* notes);

// scale, mean_file, crop_size and mirror of the data layers of 2014 go to transform_param; whether there were
// any.
bool MoveTransforms(NetParameter* net);
// Layers of 2014 become `layer`s.
void UpgradeV1Layers(NetParameter* net, const std::string& from);

}  // namespace crema
