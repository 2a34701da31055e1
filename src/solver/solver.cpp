#include "crema/solver.hpp"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "crema/caffe_files.hpp"
#include "crema/io.hpp"
#include "net/weight_files.hpp"
#include "solver/agree.hpp"
#include "solver/centers.hpp"
#include "solver/mixed_precision.hpp"
#include "solver/net_specs.hpp"
#include "solver/optimizer.hpp"
#include "solver/reducer.hpp"
#include "solver/report.hpp"
#include "solver/snapshot.hpp"
#include "solver/test_pass.hpp"
#include "solver/watch.hpp"

namespace crema {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

struct Solver::State {
  struct TestNet {
    std::unique_ptr<Net> net;
    int64_t batches;
    std::vector<Net::Output> outputs;  // of the last test pass
  };

  State(const Context& context, const SolverParameter& parameter, SolverOptions solver_options);

  void BuildTestNets();
  void LoadStart();
  void LogPlan();
  void Observe();

  bool scales_loss() const { return spec.precision() == SolverParameter::FP16; }
  bool root() const { return ctx.comm->root(); }
  bool hdf5() const { return spec.snapshot_format() == SolverParameter::HDF5; }
  // Reading files: the root alone says what it upgraded.
  FileOptions OnlyAtRoot() const {
    if (root()) return {};
    return {.say = [](const std::string&) {}};
  }
  struct Outcome {
    double loss;  // mean over the passes
    bool finite_gradients;
    double squares;  // of the gradients, where they are clipped
  };
  Outcome ForwardBackward();
  bool IsGood(const Outcome& of);
  void Iterate();
  void Update(double squares);
  void DisplayIteration();
  void Poll();
  bool TestOne(size_t index);
  void WriteSnapshotNow();
  void Finish();

  Context ctx;
  SolverParameter spec;
  SolverOptions options;
  std::string prefix;
  std::unique_ptr<Net> net;
  std::vector<TestNet> tests;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<GradientReducer> reducer;
  std::unique_ptr<LossWatch> watch;
  std::unique_ptr<SpeedReport> speed;
  std::unique_ptr<SmoothedLoss> smoothed;
  std::unique_ptr<Profile> profile;
  LossScale loss_scale;  // of precision FP16
  int64_t iteration = 0, start_iteration = 0, last_snapshot = -1;
  SnapshotsOfRun snapshots;
  double last_loss = 0;
  bool stop = false;
  // F64 [3], of an iteration: the sum of its passes' losses; how many gradients are bad; their squares, where
  // they are clipped.
  Tensor outcome;
};

Solver::State::State(const Context& context, const SolverParameter& parameter, SolverOptions solver_options)
    : ctx(context), spec(parameter), options(std::move(solver_options)) {
  ctx.seed = spec.random_seed() < 0 ? 0 : static_cast<uint64_t>(spec.random_seed());
  Require(spec.average_loss() > 0, "the solver's average_loss is ", spec.average_loss(),
          ", at least 1 was expected");
  for (const auto& [name, value] : {std::pair{"display", spec.display()},
                                    {"snapshot", spec.snapshot()},
                                    {"test_interval", spec.test_interval()},
                                    {"max_iter", spec.max_iter()},
                                    {"warmup_iter", spec.warmup_iter()},
                                    {"snapshot_keep", spec.snapshot_keep()}})
    Require(value >= 0, "the solver's ", name, " is ", value, ", 0 or more was expected");
  LearningRate(spec, 0);  // a bad policy fails here
  SolverTypeOf(spec);
  prefix = SnapshotPrefix(spec, options.solver_file);
  snapshots.keep = spec.snapshot_keep();
  if (spec.snapshot() > 0) ProbeSnapshotPrefix(ctx, prefix);
  PrepareDevice(spec, ctx);
  ctx.activations = ActivationsOf(spec, ctx.real);
  const NetSpec train = TrainNetSpec(spec, OnlyAtRoot());
  const std::vector<NetSpec> test_specs = TestNetSpecs(spec, {.say = [](const std::string&) {}});
  net = std::make_unique<Net>(ctx, train.net, train.options);
  for (const NetSpec& test : test_specs) {
    NetOptions test_options = test.options;
    test_options.share = net.get();
    tests.push_back({std::make_unique<Net>(ctx, test.net, test_options), test.batches, {}});
    WarnOfRepeats(ctx, *tests.back().net, test.batches);
  }
  optimizer = std::make_unique<Optimizer>(ctx, spec, net->params());
  reducer = std::make_unique<GradientReducer>(ctx, net->params(), GradientExchangeOf(spec));
  watch = std::make_unique<LossWatch>(*net);
  smoothed = std::make_unique<SmoothedLoss>(spec.average_loss());
  outcome = Tensor(*ctx.device, DType::kF64, {3});
  if (options.profile) profile = std::make_unique<Profile>(ctx);
  LogPlan();
  LoadStart();
  start_iteration = iteration;
}

// The snapshot, or the weights to start from.
void Solver::State::LoadStart() {
  Require(options.snapshot.empty() || options.weights.empty(),
          "a snapshot to resume from and weights to start from were both given; one of them was expected");
  if (!options.snapshot.empty()) {
    const std::string path = options.snapshot == "latest" ? LatestSnapshot(ctx, prefix) : options.snapshot;
    LOG_IF(INFO, root()) << "Restoring previous solver status from " << path;
    iteration = ReadSnapshot(ctx, path, net.get(), optimizer.get(), &loss_scale);
    last_snapshot = iteration;
    return;
  }
  std::vector<std::string> files = options.weights;
  for (const std::string& list : files.empty()
                                     ? std::vector<std::string>(spec.weights().begin(), spec.weights().end())
                                     : std::vector<std::string>()) {
    std::istringstream names(list);
    for (std::string name; std::getline(names, name, ',');) files.push_back(name);
  }
  for (const std::string& file : files) {
    LOG_IF(INFO, root()) << "Finetuning from " << file;
    std::vector<std::string> ignored;
    if (std::filesystem::is_directory(file)) {
      ignored = LoadCenterWeights(ctx, file, net.get());
    } else {
      AgreeOn(ctx, [&] { ignored = CopyFittingWeights(ReadWeights(file, OnlyAtRoot()), file, net.get()); });
    }
    for (const std::string& name : ignored) LOG_IF(INFO, root()) << "Ignoring source layer " << name;
  }
}

void Solver::State::LogPlan() {
  const std::vector<int64_t> batches = ctx.comm->AllGatherNumber(net->batch_size());
  const int64_t samples = std::accumulate(batches.begin(), batches.end(), int64_t{0}) * spec.iter_size();
  speed = std::make_unique<SpeedReport>(samples, spec.display(), spec.max_iter(), options.progress && root());
  if (!root()) return;
  if (spec.has_solver_mode() && spec.solver_mode() == SolverParameter::GPU && !ctx.device->is_cuda())
    LOG(INFO) << "The solver file asks for solver_mode GPU; this build has none, so the CPU is used";
  const MemoryPlan& plan = net->plan();
  LOG(INFO) << "Device: " << ctx.device->name() << "; ranks: " << ctx.comm->size();
  const std::string note = NoteOnPrecision(spec, ctx);
  LOG_IF(WARNING, !note.empty()) << note;
  LOG(INFO) << "Global batch: " << samples << " samples (" << net->batch_size() << " on rank 0, "
            << ctx.comm->size() << " ranks, iter_size " << spec.iter_size() << ")";
  LOG(INFO) << "Memory of rank 0: data and gradients of blobs " << Megabytes(plan.planned) << " ("
            << Megabytes(plan.unplanned) << " without sharing), weights " << Megabytes(plan.params)
            << ", their gradients " << Megabytes(plan.param_grads) << ", the solver's state "
            << Megabytes(optimizer->bytes());
}

// Debug output on iterations that are displayed, and the profile.
void Solver::State::Observe() {
  const bool display = spec.display() > 0 && iteration % spec.display() == 0;
  net->observer = nullptr;
  std::function<void(const Net::Step&, bool, bool)> debug;
  if (display && spec.debug_info() && root()) debug = DebugObserver(ctx);
  if (debug == nullptr && profile == nullptr) return;
  net->observer = [this, debug](const Net::Step& step, bool forward, bool begin) {
    if (profile != nullptr) profile->Observe(*net, step, forward, begin);
    if (debug != nullptr) debug(step, forward, begin);
  };
}

// All passes of an iteration; the gradients of the last one travel while it runs. What came of them is asked
// for when the device has all of its work.
Solver::State::Outcome Solver::State::ForwardBackward() {
  const int64_t parts = spec.iter_size();
  outcome.Zero();
  Tensor loss = outcome.Rows(0, 1), bad_gradients = outcome.Rows(1, 2), squares = outcome.Rows(2, 3);
  for (int64_t part = 0; part < parts; ++part) {
    ctx.pass = iteration * parts + part;
    net->RunForward(ctx);
    net->AddLoss(ctx, &loss);
    if (part + 1 < parts) {
      net->Backward(ctx);
    } else {
      net->Backward(ctx, [this](Param& param) { reducer->Done(param); });
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  reducer->Finish();
  reducer->AverageStatistics(ctx);
  if (profile != nullptr) profile->Add("wait for other ranks", SecondsSince(begin));
  CountBadGradients(ctx, *net, scales_loss(), &bad_gradients);
  optimizer->SumSquares(ctx, &squares);
  const std::vector<double> numbers = outcome.ToHost<double>();
  return {numbers[0] / static_cast<double>(parts), numbers[1] == 0, numbers[2]};
}

void Solver::State::DisplayIteration() {
  if (!root()) return;
  speed->LogIteration(iteration, smoothed->value());
  LogOutputs("Train", net->outputs());
  for (const Net::Step& step : net->steps()) {
    const std::string note = step.layer->Note();
    if (!note.empty()) LOG(INFO) << "    Layer " << step.layer->name() << ": " << note;
  }
}

void Solver::State::Update(double squares) {
  const double rate = LearningRate(spec, iteration);
  const bool display = spec.display() > 0 && iteration % spec.display() == 0;
  if (root()) {
    const int64_t step = LearningRateStep(spec, iteration);
    if (spec.lr_policy() == "multistep" && iteration > 0 && step > LearningRateStep(spec, iteration - 1))
      LOG(INFO) << "MultiStep Status: Iteration " << iteration << ", step = " << step;
    if (display) {
      LOG(INFO) << "Iteration " << iteration << ", lr = " << static_cast<float>(rate);
      speed->LogSpeed(iteration);
    }
  }
  const auto begin = std::chrono::steady_clock::now();
  optimizer->Update(ctx, rate, iteration, squares);
  if (profile != nullptr) profile->Add("update", SecondsSince(begin));
}

// Whether to update the weights. In precision FP16 an overflow is met by a smaller loss scale.
bool Solver::State::IsGood(const Outcome& of) {
  if (!std::isfinite(of.loss))
    FailNotFinite(ctx, net.get(), Concat("the loss is ", of.loss), spec.iter_size());
  const bool finite = of.finite_gradients;
  if (finite && scales_loss()) loss_scale.AfterFinite();
  if (finite) return true;
  if (!scales_loss() || !loss_scale.AfterOverflow())
    FailNotFinite(ctx, net.get(), "a gradient is not finite", spec.iter_size());
  LOG_IF(INFO, root()) << "Iteration " << iteration << ": a gradient overflowed float16; the update is left "
                       << "out and the loss scale halved to " << loss_scale.value();
  return false;
}

void Solver::State::Iterate() {
  ctx.iteration = iteration;
  if (scales_loss()) ctx.grad_scale = loss_scale.value();
  net->ZeroParamGrads();
  optimizer->Begin(LearningRate(spec, iteration), iteration);
  Observe();
  const Outcome came = ForwardBackward();
  const bool good = IsGood(came);
  last_loss = came.loss;
  smoothed->Add(last_loss);
  if (root()) watch->See(iteration, last_loss);
  if (spec.display() > 0 && iteration % spec.display() == 0) {
    DisplayIteration();
    if (spec.debug_info() && root()) LogAllParams(ctx, *net);
  }
  if (good) {
    Update(came.squares);
  } else {
    optimizer->SkipUpdate(ctx, LearningRate(spec, iteration), iteration);
  }
  ++iteration;
  if (root()) speed->ShowProgress(iteration, smoothed->value());
}

// Does what any rank was asked for.
void Solver::State::Poll() {
  const SolverAction mine = options.requested ? options.requested() : SolverAction::kNone;
  const std::vector<int64_t> one_of_each(static_cast<size_t>(ctx.comm->size()), 1);
  const std::vector<int64_t> asked = ctx.comm->AllGatherNumbers({static_cast<int64_t>(mine)}, one_of_each);
  const auto action = static_cast<SolverAction>(*std::max_element(asked.begin(), asked.end()));
  if (action == SolverAction::kSnapshot) WriteSnapshotNow();
  if (action == SolverAction::kStop) stop = true;
}

void Solver::State::WriteSnapshotNow() {
  if (iteration == last_snapshot) return;
  if (root()) speed->ClearProgress();
  speed->Pause();
  optimizer->CatchUp(ctx);
  CheckWeightsFinite(ctx, *net);
  WriteSnapshot(ctx, prefix, iteration, LearningRateStep(spec, iteration), *net, optimizer.get(),
                scales_loss() ? &loss_scale : nullptr, hdf5(), &snapshots);
  last_snapshot = iteration;
  speed->Resume();
}

// Returns false where it was interrupted.
bool Solver::State::TestOne(size_t index) {
  TestNet& test = tests[index];
  LOG_IF(INFO, root()) << "Iteration " << iteration << ", Testing net (#" << index << ")";
  Context test_ctx = ctx;
  TestPass pass(*test.net);
  for (int64_t batch = 0; batch < test.batches; ++batch) {
    Poll();
    if (stop) {
      LOG_IF(INFO, root()) << "Test interrupted.";
      return false;
    }
    test_ctx.pass = batch;
    pass.Add(test.net->Forward(test_ctx));
  }
  test.outputs = pass.Means();
  if (root() && spec.test_compute_loss()) LOG(INFO) << "Test loss: " << static_cast<float>(pass.MeanLoss());
  if (root()) LogOutputs("Test", test.outputs);
  return true;
}

// A last pass for display, as Caffe does after max_iter.
void Solver::State::Finish() {
  if (root()) speed->ClearProgress();
  if (spec.display() > 0 && iteration % spec.display() == 0) {
    ctx.iteration = iteration;
    ctx.pass = iteration * spec.iter_size();
    net->observer = nullptr;
    smoothed->Add(net->Forward(ctx));
    LOG_IF(INFO, root()) << "Iteration " << iteration << ", loss = " << static_cast<float>(smoothed->value());
  }
}

Solver::Solver(const Context& ctx, const SolverParameter& spec, SolverOptions options)
    : state_(std::make_unique<State>(ctx, spec, std::move(options))) {}

Solver::~Solver() = default;

void Solver::Step(int64_t count) {
  State& s = *state_;
  const int64_t end = s.iteration + count;
  *s.smoothed = SmoothedLoss(s.spec.average_loss());
  s.speed->Start(s.iteration);
  while (s.iteration < end && !s.stop) {
    const bool test = s.spec.test_interval() > 0 && s.iteration % s.spec.test_interval() == 0;
    if (test && (s.iteration > 0 || s.spec.test_initialization())) {
      TestAll();
      if (s.stop) break;
    }
    s.Iterate();
    s.Poll();
    if (s.spec.snapshot() > 0 && s.iteration % s.spec.snapshot() == 0) s.WriteSnapshotNow();
  }
  s.net->observer = nullptr;
}

void Solver::Solve() {
  State& s = *state_;
  const bool root = s.root();
  if (s.spec.snapshot_after_train() || s.options.requested) ProbeSnapshotPrefix(s.ctx, s.prefix);
  LOG_IF(INFO, root) << "Solving " << s.net->name();
  LOG_IF(INFO, root) << "Learning Rate Policy: " << s.spec.lr_policy();
  Step(s.spec.max_iter() - s.iteration);
  if (root) s.speed->ClearProgress();
  s.optimizer->CatchUp(s.ctx);
  if (s.stop || s.spec.snapshot_after_train()) s.WriteSnapshotNow();
  if (s.profile != nullptr && root) {
    const int64_t iterations = s.iteration - s.start_iteration;
    s.profile->Log(*s.net, iterations * s.spec.iter_size(), iterations);
  }
  if (s.stop) {
    LOG_IF(INFO, root) << "Optimization stopped early.";
    return;
  }
  // The test comes first, so that it measures what the snapshot holds: the display's pass moves BatchNorm's
  // statistics.
  if (s.spec.test_interval() > 0 && s.iteration % s.spec.test_interval() == 0) TestAll();
  s.Finish();
  LOG_IF(INFO, root) << "Optimization Done.";
}

void Solver::TestAll() {
  State& s = *state_;
  if (s.root()) s.speed->ClearProgress();
  s.speed->Pause();
  for (size_t i = 0; i < s.tests.size() && !s.stop; ++i) s.TestOne(i);
  s.speed->Resume();
}

std::string Solver::Snapshot() {
  state_->last_snapshot = -1;  // written again even where there is one
  state_->WriteSnapshotNow();
  return PathsOfSnapshot(state_->prefix, state_->iteration, state_->hdf5()).state;
}

int64_t Solver::iteration() const {
  return state_->iteration;
}
double Solver::last_loss() const {
  return state_->last_loss;
}
Net& Solver::net() {
  return *state_->net;
}
Net& Solver::test_net(size_t index) {
  return *state_->tests.at(index).net;
}
const std::vector<Net::Output>& Solver::test_outputs(size_t index) const {
  return state_->tests.at(index).outputs;
}

}  // namespace crema
