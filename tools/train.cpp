// train: trains a net as a solver file says, on one rank or several.
#include <signal.h>
#include <unistd.h>

#include "crema/caffe_files.hpp"
#include "crema/run_plan.hpp"
#include "crema/solver.hpp"
#include "gpu_flag.hpp"
#include "launch.hpp"
#include "tool.hpp"

DEFINE_string(solver, "", "The solver's prototxt.");
DEFINE_string(snapshot, "", "Resume from this .solverstate, or from the newest whole one: latest.");
DEFINE_string(weights, "",
              "Start from these, separated by commas: .caffemodel files, folders of class centres.");
DEFINE_int32(ranks, 0, "Start so many ranks on this machine through mpirun; 0: only this process.");
DEFINE_string(gpu, "", "Train on these GPUs, numbers separated by commas or all, a rank on each.");
DEFINE_double(gpu_patience, crema::kGpuPatience,
              "Seconds that GPUs wait for each other before the job ends with a message; 0: for ever.");
DEFINE_bool(profile, false, "Log the time of each layer at the end.");
DEFINE_bool(progress, isatty(STDERR_FILENO) == 1, "Show a line of progress; the default on a terminal.");
DEFINE_string(sigint_effect, "stop", "What Ctrl-C does: stop (with a snapshot), snapshot or none.");
DEFINE_string(sighup_effect, "snapshot", "What a hang-up does: stop, snapshot or none.");
DEFINE_int32(level, 0, "Level of the training net's state.");
DEFINE_string(stage, "", "Stages of the training net's state, separated by commas.");

namespace crema {
namespace {

constexpr char kUsage[] =
    "train --solver=SOLVER.prototxt [--snapshot=FILE.solverstate|latest] [--weights=FILE,...] "
    "[--ranks=N | --gpu=N,...|all]";

// Signals since they were last asked for. A handler can reach nothing but globals.
volatile sig_atomic_t interrupted = 0, hung_up = 0;

void OnSignal(int signal) {
  if (signal == SIGHUP || signal == SIGUSR2) {
    hung_up = 1;
  } else if (interrupted == 0) {
    interrupted = 1;
  } else {  // the second Ctrl-C does not wait for the iteration's end
    ::signal(signal, SIG_DFL);
    raise(signal);
  }
}

SolverAction EffectOf(const std::string& flag, const std::string& effect) {
  if (effect == "stop") return SolverAction::kStop;
  if (effect == "snapshot") return SolverAction::kSnapshot;
  Require(effect == "none", "--", flag, " is \"", effect, "\", one of stop, snapshot and none was expected");
  return SolverAction::kNone;
}

// mpirun hands SIGUSR1 and SIGUSR2 on to the ranks, but not SIGINT and SIGHUP, so they mean the same.
std::function<SolverAction()> WatchSignals() {
  const SolverAction interrupt = EffectOf("sigint_effect", FLAGS_sigint_effect);
  const SolverAction hang_up = EffectOf("sighup_effect", FLAGS_sighup_effect);
  for (int signal : {SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) ::signal(signal, OnSignal);
  return [=] {
    SolverAction action = SolverAction::kNone;
    if (hung_up) {
      hung_up = 0;
      action = std::max(action, hang_up);
    }
    if (interrupted) {
      interrupted = 0;
      action = std::max(action, interrupt);
    }
    return action;
  };
}

// What the run takes, and how many identities would fit instead.
void LogMemoryPlan(const SolverParameter& spec, const Context& ctx, int64_t device_bytes) {
  PlanOptions options;
  options.ranks = ctx.comm->size();
  options.device = ctx.device;
  try {
    LOG(ERROR) << "The memory plan of this run:\n"
               << DescribePlan(PlanRun(spec, options)) << "\n"
               << DescribeMostIdentities(spec, options, device_bytes);
  } catch (const Error& error) {  // the error that led here is the one to be reported
    LOG(ERROR) << "There is no memory plan: " << error.what();
  }
}

int Train(Communicator& comm) {
  const std::unique_ptr<Workplace> work = NewWorkplace(comm, FLAGS_gpu, FLAGS_gpu_patience);
  FileOptions files;
  if (!comm.root()) files.say = [](const std::string&) {};
  SolverParameter spec = ReadSolver(FLAGS_solver, files);
  if (FLAGS_level != 0) spec.mutable_train_state()->set_level(FLAGS_level);
  for (const std::string& stage : SplitAt(',', FLAGS_stage)) spec.mutable_train_state()->add_stage(stage);
  SolverOptions options;
  options.solver_file = FLAGS_solver;
  options.snapshot = FLAGS_snapshot;
  options.weights = SplitAt(',', FLAGS_weights);
  options.requested = WatchSignals();
  options.profile = FLAGS_profile;
  options.progress = FLAGS_progress;
  try {
    Solver solver(work->context(), spec, options);
    LOG_IF(INFO, comm.root()) << "Starting Optimization";
    solver.Solve();
    LOG_IF(INFO, comm.root()) << "Optimization Done.";
  } catch (const OutOfMemory& error) {
    if (comm.root()) LogMemoryPlan(spec, work->context(), error.device_bytes);
    throw;
  }
  return 0;
}

// How many ranks this process is to start; 0: it is one itself.
int RanksToStart() {
  if (FLAGS_gpu.empty()) return FLAGS_ranks;
  Require(FLAGS_ranks == 0, "--ranks and --gpu were both given; --gpu starts a rank for each GPU");
  const int gpus = static_cast<int>(GpusOf(FLAGS_gpu).size());
  return gpus > 1 && !IsMpiRank() && !IsTcpRank() ? gpus : 0;
}

int Main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  StartTool(&argc, &argv, kUsage);
  if (argc > 1) return UsageError("train", Concat("unexpected argument '", argv[1], "'"));
  if (FLAGS_solver.empty()) return UsageError("train", "--solver is missing");
  arguments.push_back("--ranks=0");
  arguments.push_back(FLAGS_progress ? "--progress=true" : "--progress=false");
  std::unique_ptr<Communicator> comm;
  const int code = RunTool("train", nullptr, [&] {
    const int ranks = RanksToStart();
    if (ranks > 0) return LaunchRanks(ranks, arguments);
    comm = NewProcessCommunicator(&argc, &argv);
    return 0;
  });
  if (comm == nullptr) return code;
  return RunTool("train", comm.get(), [&] { return Train(*comm); });
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) {
  crema::LetWaitingThreadsSleep(argv);
  return crema::Main(argc, argv);
}
