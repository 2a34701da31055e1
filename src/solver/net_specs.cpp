#include "solver/net_specs.hpp"

namespace crema {
namespace {

// The net's own state overlaid with the solver's.
NetOptions OptionsOf(const NetParameter& net, const NetState* state, Phase phase) {
  NetState merged = net.state();
  if (state != nullptr) merged.MergeFrom(*state);
  NetOptions options;
  options.phase = phase;
  options.level = merged.level();
  options.stages.assign(merged.stage().begin(), merged.stage().end());
  options.backward = phase == TRAIN;
  return options;
}

// A net that is written in the solver itself.
NetParameter Inline(NetParameter net, const std::string& field) {
  UpgradeNet(&net, "the solver's " + field);
  return net;
}

}  // namespace

NetSpec TrainNetSpec(const SolverParameter& spec, const FileOptions& files) {
  const int given = spec.has_net() + spec.has_net_param() + spec.has_train_net() + spec.has_train_net_param();
  Require(given == 1, "the solver names ", given,
          " training nets, exactly one of net, net_param, train_net and train_net_param was expected");
  NetSpec out;
  out.net = spec.has_train_net_param() ? Inline(spec.train_net_param(), "train_net_param")
            : spec.has_train_net()     ? ReadNet(spec.train_net(), files)
            : spec.has_net_param()     ? Inline(spec.net_param(), "net_param")
                                       : ReadNet(spec.net(), files);
  out.options = OptionsOf(out.net, spec.has_train_state() ? &spec.train_state() : nullptr, TRAIN);
  return out;
}

std::vector<NetSpec> TestNetSpecs(const SolverParameter& spec, const FileOptions& files) {
  const bool has_generic = spec.has_net() || spec.has_net_param();
  const int own = spec.test_net_param_size() + spec.test_net_size(), count = spec.test_iter_size();
  Require(has_generic ? count >= own : count == own, "the solver has ", count, " test_iter for ", own,
          " test nets; one for each was expected");
  Require(spec.test_state_size() == 0 || spec.test_state_size() == count, "the solver has ",
          spec.test_state_size(), " test_state for ", count, " test nets; one for each or none was expected");
  Require(count == 0 || spec.test_interval() > 0, "the solver has a test_iter but no test_interval");
  std::vector<NetSpec> out;
  for (int i = 0; i < count; ++i) {
    const int file = i - spec.test_net_param_size();
    Require(spec.test_iter(i) > 0, "the solver's test_iter is ", spec.test_iter(i),
            ", at least 1 was expected");
    NetSpec test;
    test.net = file < 0                      ? Inline(spec.test_net_param(i), "test_net_param")
               : file < spec.test_net_size() ? ReadNet(spec.test_net(file), files)
               : spec.has_net_param()        ? Inline(spec.net_param(), "net_param")
                                             : ReadNet(spec.net(), files);
    test.options = OptionsOf(test.net, spec.test_state_size() > 0 ? &spec.test_state(i) : nullptr, TEST);
    test.batches = spec.test_iter(i);
    out.push_back(std::move(test));
  }
  return out;
}

}  // namespace crema
