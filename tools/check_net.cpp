// Prints what a net is made of, without data: the shape of every blob and weight, multiply-adds, memory.
#include <gflags/gflags.h>

#include <iostream>

#include "crema/caffe_files.hpp"
#include "net/filter.hpp"
#include "net/summary.hpp"
#include "shape_flag.hpp"
#include "tool.hpp"

DEFINE_string(model, "", "The net: a prototxt file.");
DEFINE_string(phase, "TEST", "Phase to build it in: TRAIN (with gradients) or TEST.");
DEFINE_string(
    input, "",
    "Shape N,C,H,W of the images that a data layer would give; by default one image as the layer says, or "
    "else 3,112,112.");
DEFINE_string(tops, "", "Shapes of other tops of data layers, such as label=1;landmarks=1,10.");
DEFINE_int32(level, 0, "Level of the net's state.");
DEFINE_string(stage, "", "Stages of the net's state, separated by commas.");
DEFINE_bool(lenient, false, "Skip fields that Crema does not know, each with a warning.");

namespace {

using namespace crema;

// "label=1;landmarks=1,10"
std::map<std::string, Shape> TopShapes() {
  std::map<std::string, Shape> shapes;
  for (const std::string& part : SplitAt(';', FLAGS_tops)) {
    const size_t equals = part.find('=');
    Require(equals != std::string::npos, "--tops is '", FLAGS_tops, "' where blob=SIZES;... was expected.");
    const std::string sizes = part.substr(equals + 1);
    shapes[part.substr(0, equals)] = ParseShape("tops", sizes, "sizes", SplitAt(',', sizes).size());
  }
  return shapes;
}

// One unknown type is named, with what there is instead, where the net is built; more are told at once.
void CheckTypes(const NetParameter& net) {
  const std::vector<std::string> missing = MissingTypes(net);
  if (missing.size() < 2) return;
  std::string all;
  for (const std::string& type : missing) all += (all.empty() ? "" : ", ") + type;
  Fail(FLAGS_model, " has layers of ", missing.size(), " types that are not there: ", all,
       "; docs/layers.md lists the known types");
}

void Run() {
  Require(!FLAGS_model.empty(), "--model is missing: the prototxt file of a net.");
  NetOptions options;
  Require(Phase_Parse(FLAGS_phase, &options.phase), "--phase is '", FLAGS_phase,
          "' where TRAIN or TEST was expected.");
  options.backward = options.phase == TRAIN;
  options.dry = true;
  options.level = FLAGS_level;
  options.stages = SplitAt(',', FLAGS_stage);
  const Shape image =
      FLAGS_input.empty() ? Shape{1, 0, 0, 0} : ParseShape("input", FLAGS_input, "four sizes N,C,H,W", 4);
  const NetParameter spec = ReadNet(FLAGS_model, {.lenient = FLAGS_lenient, .say = PrintNote("check_net")});
  const NetParameter ready = ReplaceSources(FilterNet(spec, options), image, TopShapes());
  CheckTypes(ready);
  Workplace place;
  const Net net(place, ready, options);
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
