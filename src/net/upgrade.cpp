#include <algorithm>

#include <glog/logging.h>

#include "crema/caffe_files.hpp"
#include "crema/io.hpp"
#include "net/dialects.hpp"
#include "net/hdf5_files.hpp"
#include "net/upgrade.hpp"

namespace crema {
namespace {

using Say = std::function<void(const std::string&)>;

void SayTo(const Say& say, const std::string& sentence, bool warning) {
  if (say != nullptr) {
    say(sentence);
  } else if (warning) {
    LOG(WARNING) << sentence;
  } else {
    LOG(INFO) << sentence;
  }
}

void SayUpgrades(const FileOptions& options, const std::string& from, const std::vector<std::string>& done) {
  std::string all;
  for (const std::string& what : done) all += (all.empty() ? "" : ", ") + what;
  if (!all.empty()) SayTo(options.say, Concat("Upgraded ", from, ": ", all), false);
}

TextOptions TextOptionsOf(const FileOptions& options) {
  TextOptions text;
  text.lenient = options.lenient;
  text.warn = [&options](const std::string& sentence) { SayTo(options.say, sentence, true); };
  text.advice = AdviceOnWord;
  return text;
}

// The net's own `input` fields as a leading Input layer. Returns whether there were any.
bool UpgradeInputs(NetParameter* net, const std::string& from, bool need_sizes) {
  if (net->input_size() == 0) return false;
  const int dims = net->input_dim_size(), given = net->input_shape_size();
  Require(given == 0 || dims == 0, from, " has both input_shape and input_dim; expected one of them");
  const int shapes = given > 0 ? given : dims / 4;
  const bool dropped = shapes == 0 && !need_sizes;
  Require(dropped || (shapes == net->input_size() && dims % 4 == 0), from, " has ", net->input_size(),
          " of input, but ", given > 0 ? given : dims, " of ",
          given > 0 ? "input_shape; expected one for each" : "input_dim; expected four for each");
  LayerParameter input;
  input.set_name("input");
  input.set_type("Input");
  input.mutable_top()->Swap(net->mutable_input());
  for (int i = 0; i < shapes; ++i) {
    BlobShape* shape = input.mutable_input_param()->add_shape();
    if (given > 0) {
      *shape = net->input_shape(i);
    } else {
      for (int axis = 0; axis < 4; ++axis) shape->add_dim(net->input_dim(4 * i + axis));
    }
  }
  net->clear_input(), net->clear_input_shape(), net->clear_input_dim();
  if (dropped) return true;
  net->mutable_layer()->Add(std::move(input));
  auto* layers = net->mutable_layer();
  std::rotate(layers->pointer_begin(), layers->pointer_end() - 1, layers->pointer_end());
  return true;
}

// Caffe lets a layer have no name; here it gets that of its first top.
bool NameLayers(NetParameter* net) {
  bool any = false;
  for (LayerParameter& layer : *net->mutable_layer()) {
    if (!layer.name().empty() || layer.top_size() == 0) continue;
    layer.set_name(layer.top(0));
    any = true;
  }
  return any;
}

// Older nets name rates for BatchNorm's statistics, which nothing may learn.
bool UpgradeBatchNorms(NetParameter* net) {
  bool any = false;
  for (LayerParameter& layer : *net->mutable_layer()) {
    if (layer.type() != "BatchNorm" || layer.param_size() != 3) continue;
    for (ParamSpec& param : *layer.mutable_param()) {
      any = any || param.lr_mult() != 0;
      param.set_lr_mult(0);
      param.set_decay_mult(0);
    }
  }
  return any;
}

std::vector<std::string> Upgrade(NetParameter* net, const std::string& from, bool need_sizes) {
  std::vector<std::string> done;
  if (net->layers_size() > 0) {
    if (HasV0Layers(*net)) {
      done.push_back("layers of 2013 (V0)");
      UpgradeV0Layers(net, from, &done);
    }
    if (MoveTransforms(net))
      done.push_back("scale, mean_file, crop_size and mirror moved to transform_param");
    UpgradeV1Layers(net, from);
    done.push_back("layers of 2014 (V1)");
  }
  if (UpgradeInputs(net, from, need_sizes)) done.push_back("input fields");
  if (NameLayers(net)) done.push_back("layers without a name got that of their top");
  if (UpgradeBatchNorms(net)) done.push_back("BatchNorm's statistics not learnt");
  return done;
}

}  // namespace

std::vector<std::string> UpgradeNet(NetParameter* net, const std::string& from) {
  return Upgrade(net, from, true);
}

std::vector<std::string> UpgradeWeights(NetParameter* weights, const std::string& from) {
  return Upgrade(weights, from, false);
}

std::string SolverTypeName(const SolverParameter& solver) {
  static const char* const kOlder[] = {"SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"};
  Require(!solver.has_type() || !solver.has_solver_type(), "the solver gives both type, \"", solver.type(),
          "\", and the older solver_type, ", SolverParameter::SolverType_Name(solver.solver_type()),
          "; one of them was expected");
  return solver.has_solver_type() ? kOlder[solver.solver_type()] : solver.type();
}

std::vector<std::string> UpgradeSolver(SolverParameter* solver, const std::string& from) {
  std::vector<std::string> done;
  if (solver->has_solver_type()) {
    solver->set_type(SolverTypeName(*solver));
    solver->clear_solver_type();
    done.push_back("solver_type");
  }
  const auto upgrade = [&](NetParameter* net, const std::string& field) {
    for (const std::string& what : UpgradeNet(net, Concat(field, " of ", from)))
      done.push_back(field + ": " + what);
  };
  if (solver->has_net_param()) upgrade(solver->mutable_net_param(), "net_param");
  if (solver->has_train_net_param()) upgrade(solver->mutable_train_net_param(), "train_net_param");
  for (NetParameter& net : *solver->mutable_test_net_param()) upgrade(&net, "test_net_param");
  return done;
}

NetParameter ReadNet(const std::string& path, const FileOptions& options) {
  NetParameter net;
  ReadText(path, &net, TextOptionsOf(options));
  SayUpgrades(options, path, UpgradeNet(&net, path));
  Require(net.layer_size() > 0, path, " has no layers; expected a net");
  return net;
}

NetParameter ReadWeights(const std::string& path, const FileOptions& options) {
  NetParameter weights;
  if (IsHdf5Name(path)) {
    weights = ReadHdf5Weights(path);
  } else {
    ReadBinary(path, &weights);
  }
  SayUpgrades(options, path, UpgradeWeights(&weights, path));
  Require(weights.layer_size() > 0, "'", path, "' has no layers; expected the weights of a net");
  return weights;
}

SolverParameter ReadSolver(const std::string& path, const FileOptions& options) {
  SolverParameter solver;
  ReadText(path, &solver, TextOptionsOf(options));
  SayUpgrades(options, path, UpgradeSolver(&solver, path));
  return solver;
}

}  // namespace crema
