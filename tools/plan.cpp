// Prints what a training run will take of memory and network, without running it, and how many identities
// fit.
#include <iostream>

#include "crema/caffe_files.hpp"
#include "crema/run_plan.hpp"
#include "shape_flag.hpp"
#include "tool.hpp"

DEFINE_string(solver, "", "The solver's prototxt.");
DEFINE_int32(ranks, 1, "Ranks that the run will have.");
DEFINE_string(device_memory, "", "Memory of a rank, such as 32GB: prints how many identities fit into it.");
DEFINE_int64(classes, 0, "Identities; 0: as many as the net's DistPartialFC says.");
DEFINE_string(image, "", "Size C,H,W of the images that the data layers give, where their data is not here.");

namespace crema {
namespace {

constexpr char kUsage[] =
    "plan --solver=SOLVER.prototxt [--ranks=N] [--device_memory=32GB] [--classes=N] [--image=C,H,W]";

int Plan() {
  Require(FLAGS_ranks >= 1, "--ranks is ", FLAGS_ranks, " where at least 1 was expected");
  Require(FLAGS_classes >= 0, "--classes is ", FLAGS_classes, " where 0 or more was expected");
  const int64_t device_memory = FLAGS_device_memory.empty() ? 0 : ParseBytes(FLAGS_device_memory);
  const SolverParameter spec = ReadSolver(FLAGS_solver);
  PlanOptions options;
  options.ranks = FLAGS_ranks;
  options.classes = FLAGS_classes;
  if (!FLAGS_image.empty()) options.image = ParseShape("image", FLAGS_image, "three sizes C,H,W", 3);
  std::string text = DescribePlan(PlanRun(spec, options));
  if (device_memory > 0) text += "\n" + DescribeMostIdentities(spec, options, device_memory);
  std::cout << text;
  return 0;
}

int Main(int argc, char** argv) {
  StartTool(&argc, &argv, kUsage);
  if (argc > 1) return UsageError("plan", Concat("unexpected argument '", argv[1], "'"));
  if (FLAGS_solver.empty()) return UsageError("plan", "--solver is missing");
  return RunTool("plan", nullptr, Plan);
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) {
  return crema::Main(argc, argv);
}
