// Floor 6. Snapshots: <prefix>_iter_N.caffemodel and .solverstate in Caffe's formats (with .h5 behind in
// HDF5) and, where weights are sharded, the folder <prefix>_iter_N.centers. A snapshot is whole once its
// .solverstate is there, which is renamed into place last. Called by the solver.
#pragma once

#include <string>

#include "crema/net.hpp"
#include "solver/mixed_precision.hpp"
#include "solver/optimizer.hpp"

namespace crema {

struct SnapshotPaths {
  std::string model, state, centers;
};
SnapshotPaths PathsOfSnapshot(const std::string& prefix, int64_t iteration, bool hdf5 = false);

// Caffe's rule: the solver file without extension where no prefix is given; a folder: the solver file's stem
// in it.
std::string SnapshotPrefix(const SolverParameter& spec, const std::string& solver_file);

// Throws Error on all ranks unless files can be made beside `prefix`. Collective.
void ProbeSnapshotPrefix(const Context& ctx, const std::string& prefix);

// Writes the snapshot of `iteration` updates, with the loss scale unless it is null, and returns the path of
// its .solverstate. Where it fails, on a
// full disk, say, its partial files are removed, older snapshots stay and every rank throws Error.
// Collective.
std::string WriteSnapshot(const Context& ctx, const std::string& prefix, int64_t iteration,
                          int64_t current_step, const Net& net, Optimizer* optimizer,
                          const LossScale* loss_scale, bool hdf5);

// Removes the snapshots of `prefix` before the newest `keep` up to `iteration`; keep 0 removes none. Root
// only.
void RemoveOldSnapshots(const std::string& prefix, int64_t iteration, int64_t keep);

// The .solverstate of the newest whole snapshot of `prefix`; a broken one is passed over with a warning.
// Throws Error where there is none. Collective.
std::string LatestSnapshot(const Context& ctx, const std::string& prefix);

// Loads weights, statistics, the optimiser's state and, where there is one, the loss scale; returns the
// iteration. Collective.
int64_t ReadSnapshot(const Context& ctx, const std::string& state_path, Net* net, Optimizer* optimizer,
                     LossScale* loss_scale);

}  // namespace crema
