// Floor 4. Reading nets, weights and solvers as Caffe's users have them: files of all its ages and, on
// request, with words of its forks. Called by the solver, by tools and by embedders.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "crema.pb.h"

namespace crema {

struct FileOptions {
  // Fields and values that Crema does not know are skipped, each with a warning, instead of being an Error.
  bool lenient = false;
  // Told what was upgraded and what was skipped, a sentence each; the log where it is null.
  std::function<void(const std::string&)> say = nullptr;
};

// A net's prototxt, upgraded. Throws Error with file, line and column for what it cannot read, and where
// Crema knows what a fork means by a word, with what to write instead.
NetParameter ReadNet(const std::string& path, const FileOptions& options = {});
// A caffemodel, upgraded; of inputs without sizes nothing is left.
NetParameter ReadWeights(const std::string& path, const FileOptions& options = {});
// A solver's prototxt, upgraded. The nets that it names by file are not read.
SolverParameter ReadSolver(const std::string& path, const FileOptions& options = {});

// Brings a net to the form that Crema runs, in Caffe's order: layers of 2013 (`layers { layer { type: "conv"
// } }`) become those of 2014 (`layers { type: CONVOLUTION }`), padding layers merged into what follows them;
// scale, mean_file, crop_size and mirror move from these data layers to transform_param; they become
// `layer`s; inputs of the net itself become one leading Input layer; layers without a name get that of their
// first top; BatchNorm's three params get lr_mult and decay_mult 0. Returns what it did, in a few words each;
// nothing where there was nothing to do. Throws Error, naming `from`, for both `layer` and `layers`, for
// unknown types, and for inputs without sizes.
std::vector<std::string> UpgradeNet(NetParameter* net, const std::string& from);
// The same for weights, whose net is not built: inputs without sizes are dropped.
std::vector<std::string> UpgradeWeights(NetParameter* weights, const std::string& from);
// The older solver_type becomes type, and nets within the solver are upgraded. Throws Error where both types
// are given.
std::vector<std::string> UpgradeSolver(SolverParameter* solver, const std::string& from);

// The update rule of a solver: its type, or what the older solver_type stands for. Throws Error where both
// are given.
std::string SolverTypeName(const SolverParameter& solver);

}  // namespace crema
