// Rewrites a caffemodel of any age of Caffe as today's.
#include "crema/caffe_files.hpp"
#include "upgrade_tool.hpp"

int main(int argc, char** argv) {
  using namespace crema;
  return UpgradeTool("upgrade_net_proto_binary", argc, argv,
                     [](const std::string& from, const FileOptions& options) {
                       return ReadWeights(from, options).SerializeAsString();
                     });
}
