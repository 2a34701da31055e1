// Prints what a net is made of, without data: the shape of every blob and weight, multiply-adds, memory.
#include <gflags/gflags.h>

#include <iostream>

#include "crema/io.hpp"
#include "net/summary.hpp"
#include "shape_flag.hpp"
#include "tool.hpp"

DEFINE_string(model, "", "The net: a prototxt file.");
DEFINE_string(phase, "TEST", "Phase to build it in: TRAIN (with gradients) or TEST.");
DEFINE_string(input, "1,3,112,112", "Shape N,C,H,W of the images that a Data or ImageData layer would give.");

namespace {

using namespace crema;

void Run() {
  Require(!FLAGS_model.empty(), "--model is missing: the prototxt file of a net.");
  Phase phase;
  Require(Phase_Parse(FLAGS_phase, &phase), "--phase is '", FLAGS_phase,
          "' where TRAIN or TEST was expected.");
  NetParameter spec;
  ReadText(FLAGS_model, &spec);
  Workplace place;
  const NetOptions options{.phase = phase, .backward = phase == TRAIN};
  const Net net(place, ReplaceSources(spec, ParseShape("input", FLAGS_input, "four sizes N,C,H,W", 4)),
                options);
  std::cout << net.name() << " in phase " << FLAGS_phase << "\n" << SummaryTable(net);
}

}  // namespace

int main(int argc, char** argv) {
  gflags::SetUsageMessage("prints the shapes, parameters and multiply-adds of a net: check_net --model=NET");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return RunTool("check_net", nullptr, [&] {
    Require(argc == 1, "check_net takes flags only and was given '", argc > 1 ? argv[1] : "", "'.");
    Run();
    return 0;
  });
}
