// Caffe's own program, by its command lines and its lines of output: train, test, time, device_query.
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "crema/caffe_files.hpp"
#include "crema/net.hpp"
#include "gpu_flag.hpp"
#include "net/weight_files.hpp"
#include "solver/report.hpp"
#include "solver/test_pass.hpp"
#include "tool.hpp"

DEFINE_string(solver, "", "train: the solver's prototxt.");
DEFINE_string(model, "", "test, time: the net's prototxt.");
DEFINE_string(weights, "", "train, test: .caffemodel files separated by commas; later ones win.");
DEFINE_string(snapshot, "", "train: resume from this .solverstate.");
DEFINE_string(gpu, "", "GPUs to run on, numbers separated by commas or all; test and time take the first.");
DEFINE_int32(iterations, 50, "test, time: batches.");
DEFINE_string(phase, "", "time: TRAIN, which is the default, or TEST.");
DEFINE_int32(level, 0, "Level of the net's state.");
DEFINE_string(stage, "", "Stages of the net's state, separated by commas.");
DEFINE_string(sigint_effect, "stop", "train: what Ctrl-C does: stop (with a snapshot), snapshot or none.");
DEFINE_string(sighup_effect, "snapshot", "train: what a hang-up does: stop, snapshot or none.");
DEFINE_bool(lenient, false,
            "test, time: skip fields of the net that Crema does not know, each with a warning.");

namespace crema {
namespace {

constexpr char kUsage[] =
    "caffe train --solver=FILE [--weights=FILE,...|--snapshot=FILE] [--gpu=N,...|all]\n"
    "       caffe test --model=FILE --weights=FILE,... [--iterations=50] [--gpu=N]\n"
    "       caffe time --model=FILE [--iterations=50] [--phase=TRAIN|TEST] [--gpu=N]\n"
    "       caffe device_query";

// Becomes another program of this folder. Returns only where that is not possible.
int Become(const std::string& program, std::vector<std::string> arguments) {
  const std::string path = std::filesystem::read_symlink("/proc/self/exe").parent_path() / program;
  arguments.insert(arguments.begin(), path);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  Fail("cannot start '", path, "': ", std::strerror(errno));
}

// The flags that were given, of those that `train` has too.
std::vector<std::string> TrainFlags() {
  std::vector<std::string> given;
  for (const char* name :
       {"solver", "weights", "snapshot", "gpu", "level", "stage", "sigint_effect", "sighup_effect"}) {
    const gflags::CommandLineFlagInfo flag = gflags::GetCommandLineFlagInfoOrDie(name);
    if (!flag.is_default) given.push_back(Concat("--", name, "=", flag.current_value));
  }
  return given;
}

std::unique_ptr<Net> NewNet(const Context& ctx, Phase phase, bool backward) {
  Require(!FLAGS_model.empty(), "--model is missing: the prototxt file of a net");
  Require(FLAGS_iterations > 0, "--iterations is ", FLAGS_iterations, " where at least 1 was expected");
  NetOptions options;
  options.phase = phase;
  options.level = FLAGS_level;
  options.stages = SplitAt(',', FLAGS_stage);
  options.backward = backward;
  return std::make_unique<Net>(ctx, ReadNet(FLAGS_model, {.lenient = FLAGS_lenient}), options);
}

// " (* 1 = 2.31 loss)" behind an output that counts in the loss.
std::string LossPart(const Net::Output& output, float value) {
  if (output.loss_weight == 0) return "";
  return Concat(" (* ", output.loss_weight, " = ", output.loss_weight * value, " loss)");
}

int Test(Context& ctx) {
  Require(!FLAGS_weights.empty(), "--weights is missing: .caffemodel files for the net");
  const std::unique_ptr<Net> net = NewNet(ctx, TEST, false);
  for (const std::string& file : SplitAt(',', FLAGS_weights)) {
    for (const std::string& name : CopyFittingWeights(ReadWeights(file), file, net.get()))
      LOG(INFO) << "Ignoring source layer " << name;
  }
  LOG(INFO) << "Running for " << FLAGS_iterations << " iterations.";
  TestPass pass(*net);
  for (int batch = 0; batch < FLAGS_iterations; ++batch) {
    ctx.pass = batch;
    for (const Net::Output& output : pass.Add(net->Forward(ctx)))
      for (float value : output.values)
        LOG(INFO) << "Batch " << batch << ", " << output.name << " = " << value;
  }
  LOG(INFO) << "Loss: " << static_cast<float>(pass.MeanLoss());
  for (const Net::Output& output : pass.Means())
    for (float value : output.values) LOG(INFO) << output.name << " = " << value << LossPart(output, value);
  return 0;
}

using Clock = std::chrono::steady_clock;

double Milliseconds(Clock::time_point since) {
  return std::chrono::duration<double, std::milli>(Clock::now() - since).count();
}

int Time(Context& ctx) {
  Phase phase = TRAIN;
  Require(FLAGS_phase.empty() || Phase_Parse(FLAGS_phase, &phase), "--phase is '", FLAGS_phase,
          "' where TRAIN or TEST was expected");
  const std::unique_ptr<Net> net = NewNet(ctx, phase, true);
  LOG(INFO) << "Performing Forward";
  const double loss = net->Forward(ctx);
  LOG(INFO) << "Initial loss: " << static_cast<float>(loss);
  LOG(INFO) << "Performing Backward";
  net->Backward(ctx);
  LOG(INFO) << "*** Benchmark begins ***";
  LOG(INFO) << "Testing for " << FLAGS_iterations << " iterations.";
  Profile profile(ctx);
  net->observer = [&](const Net::Step& step, bool forward, bool begin) {
    profile.Observe(*net, step, forward, begin);
  };
  const Clock::time_point all = Clock::now();
  for (int i = 0; i < FLAGS_iterations; ++i) {
    ctx.pass = i + 1;
    const Clock::time_point one = Clock::now();
    net->Forward(ctx);
    net->Backward(ctx);
    LOG(INFO) << "Iteration: " << i + 1 << " forward-backward time: " << Milliseconds(one) << " ms.";
  }
  const double total = Milliseconds(all);
  profile.Log(*net, FLAGS_iterations, FLAGS_iterations);
  LOG(INFO) << "Total Time: " << total << " ms.";
  LOG(INFO) << "*** Benchmark ends ***";
  return 0;
}

int Run(const std::string& command) {
  if (command == "train") {
    Require(!FLAGS_lenient,
            "--lenient is for test and time; a net to train is expected without unknown fields");
    return Become("train", TrainFlags());
  }
  if (command == "device_query") return Become("device_query", {});
  const std::unique_ptr<Communicator> alone = NewSelfCommunicator();
  const std::unique_ptr<Workplace> place = NewWorkplace(*alone, FLAGS_gpu);
  if (FLAGS_gpu.empty()) LOG(INFO) << "Use CPU.";
  return command == "test" ? Test(*place) : Time(*place);
}

int Main(int argc, char** argv) {
  StartTool(&argc, &argv, kUsage);
  const std::string command = argc > 1 ? argv[1] : "";
  if (argc != 2 ||
      (command != "train" && command != "test" && command != "time" && command != "device_query"))
    return UsageError("caffe", argc < 2   ? "a command is missing: train, test, time or device_query"
                               : argc > 2 ? Concat("unexpected argument '", argv[2], "'")
                                          : Concat("unknown command '", command, "'"));
  return RunTool("caffe", nullptr, [&] { return Run(command); });
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) {
  crema::LetWaitingThreadsSleep(argv);
  return crema::Main(argc, argv);
}
