// Floor 6. Which nets a SolverParameter names: the training net and the test nets with their states. Called
// by the solver.
#pragma once

#include <vector>

#include "crema/caffe_files.hpp"
#include "crema/net.hpp"

namespace crema {

struct NetSpec {
  NetParameter net;
  NetOptions options;
  int64_t batches = 0;  // of a test pass
};

// Reads the files that the spec names, relative to the current folder; all nets are upgraded. Throws Error
// unless there is exactly one training net, and unless test_iter, test_state and test_interval fit the test
// nets.
NetSpec TrainNetSpec(const SolverParameter& spec, const FileOptions& files = {});
std::vector<NetSpec> TestNetSpecs(const SolverParameter& spec, const FileOptions& files = {});

}  // namespace crema
