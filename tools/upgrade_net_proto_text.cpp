// Rewrites a net's prototxt of any age of Caffe as today's.
#include "crema/caffe_files.hpp"
#include "upgrade_tool.hpp"

DEFINE_bool(lenient, false, "Drop fields that Crema does not know, each with a warning.");

int main(int argc, char** argv) {
  using namespace crema;
  return UpgradeTool("upgrade_net_proto_text", argc, argv, [](const std::string& from, FileOptions options) {
    options.lenient = FLAGS_lenient;
    return ToText(ReadNet(from, options));
  });
}
