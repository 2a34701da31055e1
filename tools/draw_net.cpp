// A drawing of a net, as text for Graphviz: boxes are layers, rounded boxes are blobs.
#include <iomanip>
#include <set>

#include "crema/caffe_files.hpp"
#include "crema/io.hpp"
#include "net/filter.hpp"
#include "tool.hpp"

DEFINE_string(phase, "", "Draw the net of this phase, TRAIN or TEST; by default every layer of the file.");
DEFINE_string(rankdir, "LR", "Direction of the drawing: LR, TB, BT or RL.");
DEFINE_bool(lenient, false, "Skip fields that Crema does not know, each with a warning.");

namespace {

using namespace crema;

std::string Quoted(const std::string& text) {
  std::ostringstream out;
  out << std::quoted(text);
  return out.str();
}

// "3x3", from sizes that may be given once or for each axis.
template <class Sizes>
std::string SizesOf(const Sizes& sizes, uint32_t h, uint32_t w, uint32_t otherwise) {
  if (h > 0 || w > 0) return Concat(h, "x", w);
  if (sizes.empty()) return Concat(otherwise);
  return sizes.size() == 1 ? Concat(sizes[0]) : Concat(sizes[0], "x", sizes[1]);
}

// What a layer's box says below its name and type.
std::string DetailOf(const LayerParameter& layer) {
  if (layer.has_convolution_param()) {
    const ConvolutionParameter& p = layer.convolution_param();
    return Concat("kernel ", SizesOf(p.kernel_size(), p.kernel_h(), p.kernel_w(), 1), ", stride ",
                  SizesOf(p.stride(), p.stride_h(), p.stride_w(), 1), ", pad ",
                  SizesOf(p.pad(), p.pad_h(), p.pad_w(), 0), "\\n", p.num_output(), " outputs",
                  p.group() > 1 ? Concat(" in ", p.group(), " groups") : "");
  }
  if (layer.has_pooling_param()) {
    const PoolingParameter& p = layer.pooling_param();
    const std::string what = PoolingParameter::PoolMethod_Name(p.pool());
    return p.global_pooling()
               ? what + ", global"
               : Concat(what, ", kernel ",
                        SizesOf(std::vector{p.kernel_size()}, p.kernel_h(), p.kernel_w(), 0), ", stride ",
                        SizesOf(std::vector{p.stride()}, p.stride_h(), p.stride_w(), 1), ", pad ",
                        SizesOf(std::vector{p.pad()}, p.pad_h(), p.pad_w(), 0));
  }
  if (layer.has_inner_product_param()) return Concat(layer.inner_product_param().num_output(), " outputs");
  if (layer.has_eltwise_param()) return EltwiseParameter::EltwiseOp_Name(layer.eltwise_param().operation());
  if (layer.has_dist_partial_fc_param())
    return Concat(layer.dist_partial_fc_param().num_output(), " identities");
  return "";
}

const char* ColourOf(const LayerParameter& layer) {
  const std::string& type = layer.type();
  if (layer.bottom_size() == 0) return "#d8d8d8";
  if (type.find("Loss") != std::string::npos || type == "MarginSoftmax" || type == "Accuracy")
    return "#f4b6a6";
  if (type.find("Convolution") != std::string::npos) return "#f7d8a8";
  if (type.find("Pooling") != std::string::npos) return "#c9e3b4";
  if (type == "InnerProduct" || type == "DistPartialFC") return "#b8c9ee";
  return "#e6e0f2";
}

std::string Draw(const NetParameter& net) {
  std::ostringstream out;
  out << "digraph " << Quoted(net.name().empty() ? "net" : net.name()) << " {\n  rankdir=" << FLAGS_rankdir
      << ";\n  node [shape=box, style=filled];\n";
  std::set<std::string> blobs;
  for (int i = 0; i < net.layer_size(); ++i) {
    const LayerParameter& layer = net.layer(i);
    const std::string detail = DetailOf(layer), id = Concat("layer_", i);
    std::string label = Quoted(layer.name() + "\n" + layer.type());
    label.pop_back();
    for (size_t at = label.find('\n'); at != std::string::npos; at = label.find('\n'))
      label.replace(at, 1, "\\n");
    out << "  " << id << " [label=" << label << (detail.empty() ? "" : "\\n") << detail << "\", fillcolor=\""
        << ColourOf(layer) << "\"];\n";
    const auto is_bottom = [&](const std::string& name) {
      for (const std::string& bottom : layer.bottom())
        if (bottom == name) return true;
      return false;
    };
    for (const std::string& bottom : layer.bottom()) {
      blobs.insert(bottom);
      bool in_place = false;
      for (const std::string& top : layer.top()) in_place = in_place || top == bottom;
      out << "  " << Quoted("blob " + bottom) << " -> " << id << (in_place ? " [dir=both]" : "") << ";\n";
    }
    for (const std::string& top : layer.top()) {
      blobs.insert(top);
      if (!is_bottom(top)) out << "  " << id << " -> " << Quoted("blob " + top) << ";\n";
    }
  }
  for (const std::string& blob : blobs)
    out << "  " << Quoted("blob " + blob) << " [label=" << Quoted(blob)
        << ", style=\"rounded,filled\", fillcolor=\"#ffffff\"];\n";
  out << "}\n";
  return out.str();
}

int Run(const std::string& path, const std::string& out) {
  NetParameter net = ReadNet(path, {.lenient = FLAGS_lenient});
  if (!FLAGS_phase.empty()) {
    NetOptions options;
    Require(Phase_Parse(FLAGS_phase, &options.phase), "--phase is '", FLAGS_phase,
            "' where TRAIN or TEST was expected");
    net = FilterNet(net, options);
  }
  const std::set<std::string> directions = {"LR", "TB", "BT", "RL"};
  Require(directions.count(FLAGS_rankdir) > 0, "--rankdir is '", FLAGS_rankdir,
          "' where LR, TB, BT or RL was expected");
  WriteFile(out, Draw(net));
  LOG(INFO) << "Drew " << net.layer_size() << " layers to " << out;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StartTool(&argc, &argv, "draw_net [--phase=TRAIN|TEST] [--rankdir=LR] NET OUT.dot");
  if (argc != 3)
    return UsageError("draw_net", Concat("found ", argc - 1, " arguments where two files were expected"));
  return RunTool("draw_net", nullptr, [&] { return Run(argv[1], argv[2]); });
}
