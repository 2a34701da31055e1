// device_query: what this build can train on, and the versions of its libraries.
#include "crema/device.hpp"
#include "tool.hpp"

int main(int argc, char** argv) {
  crema::StartTool(&argc, &argv, "device_query");
  if (argc > 1)
    return crema::UsageError("device_query", crema::Concat("unexpected argument '", argv[1], "'"));
  return crema::RunTool("device_query", nullptr, [] {
    for (const std::string& line : crema::DescribeDevices()) std::printf("%s\n", line.c_str());
    return 0;
  });
}
