// Floor 6. Solver: trains a net as a SolverParameter says, with Caffe's loop, arithmetic and log lines.
// Called by tools and by embedders.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "crema/net.hpp"

namespace crema {

// The learning rate of an iteration (from 0), a pure function of its arguments. Throws Error for an unknown
// policy or a missing field, naming it.
//   fixed      base_lr
//   step       base_lr * gamma ^ floor(iteration / stepsize)
//   exp        base_lr * gamma ^ t
//   inv        base_lr * (1 + gamma * t) ^ -power
//   multistep  base_lr * gamma ^ (number of stepvalues passed, at most one more in each iteration)
//   poly       base_lr * (1 - t / T) ^ power
//   sigmoid    base_lr / (1 + exp(-gamma * (iteration - stepsize)))
//   cosine     base_lr * (1 + cos(pi * t / T)) / 2
// Before warmup_iter the rate rises linearly from warmup_start_lr to base_lr; t = iteration - warmup_iter and
// T = max_iter - warmup_iter, so that it goes on from base_lr without a jump.
double LearningRate(const SolverParameter& spec, int64_t iteration);
// How many drops of step or multistep lie behind; 0 for the other policies.
int64_t LearningRateStep(const SolverParameter& spec, int64_t iteration);

// What a signal or an embedder asks for between two iterations. The greatest one of all ranks is done by all.
enum class SolverAction { kNone = 0, kSnapshot = 1, kStop = 2 };

struct SolverOptions {
  std::string solver_file;                  // names the default snapshot prefix
  std::string snapshot;                     // a .solverstate to resume from, or "latest"; empty: none
  std::vector<std::string> weights;         // .caffemodel files and folders of class centres to start from
  std::function<SolverAction()> requested;  // asked on every rank once per iteration; may be null
  bool profile = false;                     // time each layer; Solve() logs a table at the end
  bool progress = false;                    // keep one line of progress on stderr, a terminal
};

class Solver {
 public:
  // Reads and builds the nets, loads weights or the snapshot, and logs the plan. `ctx`'s seed is replaced by
  // the spec's random_seed. Collective.
  Solver(const Context& ctx, const SolverParameter& spec, SolverOptions options = {});
  ~Solver();
  Solver(const Solver&) = delete;

  // Trains until max_iter or until asked to stop, with snapshots and a last test pass. Throws Error where a
  // loss is not finite, naming the layer, and where a snapshot cannot be written. Collective.
  void Solve();
  // `count` iterations, with their tests, log lines and snapshots. Collective.
  void Step(int64_t count);
  // Runs the test nets and logs their outputs. Collective.
  void TestAll();
  // Writes a snapshot now; returns the path of its .solverstate. Collective.
  std::string Snapshot();

  int64_t iteration() const;  // updates done
  double last_loss() const;   // of the last iteration, the mean over its micro-batches
  Net& net();
  Net& test_net(size_t index);
  // Outputs of the test net of that number in its last test pass, averaged over the pass.
  const std::vector<Net::Output>& test_outputs(size_t index) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace crema
