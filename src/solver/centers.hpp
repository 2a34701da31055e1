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

// What is remembered of a folder that this run wrote, so that it can become a later one.
struct CentersFolder {
  int64_t iteration = 0;
  std::vector<std::vector<uint32_t>> sums;  // of each quantity of each part: checksums of its steps of rows
  int64_t steps = 0, steps_written = 0;     // of this rank's rows, of one quantity of each part
};

// Writes all parts, as they are after `iteration` updates, into a folder, each rank its rows, and syncs them
// to disk. `older`: what this returned for the same parts when it wrote what the folder holds, so that rows
// drawn since are all that is written; null: the folder is new. Throws Error on all ranks where one fails;
// what was written remains. Collective.
CentersFolder WriteCenters(const Context& ctx, const std::string& folder, int64_t iteration,
                           const std::vector<CentersPart>& parts, const CentersFolder* older);

// Whether `older` may be given: centres lie in files, and those that were not drawn are what they were.
bool CanRewriteCenters(const std::vector<CentersPart>& parts);

// Reads this rank's rows of every quantity of every part and checks them against the checksums. Throws Error
// on all ranks where a file is missing, truncated or altered. Collective.
void ReadCenters(const Context& ctx, const std::string& folder, const std::vector<CentersPart>& parts);

// Reads the weights of the net's params that the folder has; returns the names of those in the folder that
// the net does not have. Collective.
std::vector<std::string> LoadCenterWeights(const Context& ctx, const std::string& folder, Net* net);

// Throws Error unless every header's files are there in full length. Not collective.
void CheckCenters(const std::string& folder);

}  // namespace crema
