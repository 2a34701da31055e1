// Floor 4. Weights and solver states in HDF5, as Caffe writes them with `snapshot_format: HDF5`: groups
// data/<layer>/<i>, and history/<i> beside iter, current_step and learned_net. Called by what reads weights
// and by the snapshot.
#pragma once

#include <string>

#include "crema.pb.h"

namespace crema {

// Whether a file of weights or a state is HDF5: by its name, which ends in ".h5".
bool IsHdf5Name(const std::string& path);

// All throw Error, naming the file.
NetParameter ReadHdf5Weights(const std::string& path);  // layers of a name and blobs only
void WriteHdf5Weights(const std::string& path, const NetParameter& net);
SolverState ReadHdf5State(const std::string& path);
void WriteHdf5State(const std::string& path, const SolverState& state);

}  // namespace crema
