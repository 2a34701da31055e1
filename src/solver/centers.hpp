// Floor 6. Sharded weights (class centres) on disk: a folder with one row-major little-endian file per
// quantity in global row order and a text header per weight, the same for every number of ranks.
// docs/formats.md is the format. Called by the snapshot and by the loading of weights.
#pragma once

#include <string>
#include <vector>

#include "crema/net.hpp"
#include "solver/optimizer.hpp"

namespace crema {

// A weight and the tensors of its shape that are kept with it: {"weight", &value}, {"momentum", &slot}.
struct CentersPart {
  Param* param;
  std::vector<std::pair<std::string, Tensor*>> quantities;
  Tensor* last_drawn = nullptr;  // see RowUpdater
};

// The sharded weights among the optimiser's, with their state.
std::vector<CentersPart> ShardedParts(Optimizer* optimizer);

// Writes all parts into a new folder, each rank its rows, and syncs them to disk. Throws Error on all ranks
// where one fails; what was written remains. Collective.
void WriteCenters(const Context& ctx, const std::string& folder, const std::vector<CentersPart>& parts);

// Reads this rank's rows of every quantity of every part and checks them against the checksums. Throws Error
// on all ranks where a file is missing, truncated or altered. Collective.
void ReadCenters(const Context& ctx, const std::string& folder, const std::vector<CentersPart>& parts);

// Reads the weights of the net's params that the folder has; returns the names of those in the folder that
// the net does not have. Collective.
std::vector<std::string> LoadCenterWeights(const Context& ctx, const std::string& folder, Net* net);

// Throws Error unless every header's files are there in full length. Not collective.
void CheckCenters(const std::string& folder);

}  // namespace crema
