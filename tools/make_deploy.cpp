// Prints a deploy net: what of a training net leads to the embedding, for one image, as every reader of
// Caffe's files takes it.
#include <iostream>

#include "crema/caffe_files.hpp"
#include "crema/embedder.hpp"
#include "crema/io.hpp"
#include "tool.hpp"

DEFINE_string(model, "", "The training net: a prototxt file.");
DEFINE_string(blob, "", "The embedding, where it is not what the net's head classifies.");
DEFINE_int32(height, 0, "Height of the images, where the net does not say it.");
DEFINE_int32(width, 0, "Width of the images; the height where it is not given.");
DEFINE_bool(lenient, false, "Skip fields of the net that Crema does not know, each with a warning.");

namespace crema {
namespace {

// What is to be done to an image before it goes in.
void PrintTransform(const EmbeddingNet& cut) {
  const TransformationParameter& transform = cut.transform;
  std::cout << "# Takes one image of " << cut.channels << " channels" << (transform.rgb() ? ", R, G, B" : "");
  if (cut.channels == 3 && !transform.rgb()) std::cout << ", B, G, R";
  std::cout << ": (pixel - mean) * " << (transform.has_scale() ? transform.scale() : 1) << " with mean";
  if (transform.mean_value_size() == 0) std::cout << (transform.mean_file().empty() ? " 0" : " of a file");
  for (float mean : transform.mean_value()) std::cout << " " << mean;
  std::cout << ".\n# Gives the blob '" << cut.blob << "'.\n";
}

int Print() {
  Require(!FLAGS_model.empty(), "--model is missing: the prototxt file of a training net");
  const NetParameter net = ReadNet(FLAGS_model, {.lenient = FLAGS_lenient, .say = PrintNote("make_deploy")});
  const EmbeddingNet cut = CutAtEmbedding(net, FLAGS_blob, FLAGS_model);
  const int height = FLAGS_height > 0 ? FLAGS_height : FLAGS_width;
  Require(height > 0 || cut.height > 0, FLAGS_model,
          " does not say how large its images are; --height and --width were expected");
  const NetParameter deploy = DeployNet(cut, height, FLAGS_width > 0 ? FLAGS_width : height);
  if (cut.has_data_layer) PrintTransform(cut);
  std::cout << ToText(deploy);
  return 0;
}

}  // namespace
}  // namespace crema

int main(int argc, char** argv) {
  crema::StartTool(&argc, &argv,
                   "make_deploy --model=TRAIN.prototxt [--height=N] [--blob=NAME] > deploy.prototxt");
  if (argc > 1) return crema::UsageError("make_deploy", "it takes flags only");
  return crema::RunTool("make_deploy", nullptr, crema::Print);
}
