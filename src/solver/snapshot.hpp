// Floor 6. Snapshots: <prefix>_iter_N.caffemodel and .solverstate in Caffe's formats (with .h5 behind in
// HDF5) and, where weights are sharded, the folder <prefix>_iter_N.centers. A snapshot is whole once its
// .solverstate is there, which is renamed into place last. Called by the solver.
#pragma once

#include <map>
#include <string>

#include "crema/net.hpp"
#include "solver/centers.hpp"
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

// What a run keeps of the snapshots that it wrote.
struct SnapshotsOfRun {
  int64_t keep = 0;                          // the newest so many stay; 0: all
  std::map<int64_t, CentersFolder> centers;  // by iteration
};

// Writes the snapshot of `iteration` updates, with the loss scale unless it is null, and then removes those
// of `prefix` before the newest `run->keep` up to it; returns the path of its .solverstate. Where class
// centres lie in a file, one that is to be removed, and that this run wrote, becomes the new one where it is
// not the last: of its class centres only those drawn since are written. Where writing fails, on a full disk,
// say, the partial files are removed, at least one older snapshot stays and every rank throws Error.
// Collective.
std::string WriteSnapshot(const Context& ctx, const std::string& prefix, int64_t iteration,
                          int64_t current_step, const Net& net, Optimizer* optimizer,
                          const LossScale* loss_scale, bool hdf5, SnapshotsOfRun* run);

// The .solverstate of the newest whole snapshot of `prefix`; a broken one is passed over with a warning.
// Throws Error where there is none. Collective.
std::string LatestSnapshot(const Context& ctx, const std::string& prefix);

// Loads weights, statistics, the optimiser's state and, where there is one, the loss scale; returns the
// iteration. Collective.
int64_t ReadSnapshot(const Context& ctx, const std::string& state_path, Net* net, Optimizer* optimizer,
                     LossScale* loss_scale);

}  // namespace crema
