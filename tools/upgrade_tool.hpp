// Floor 7. What the upgrade tools share. Included by tools/upgrade_*.cpp only.
#pragma once

#include <functional>
#include <string>

#include "crema/caffe_files.hpp"
#include "crema/io.hpp"
#include "tool.hpp"

namespace crema {

// The tool's whole main(): `upgraded` reads the file of that path and returns the bytes to write.
inline int UpgradeTool(const char* tool, int argc, char** argv,
                       const std::function<std::string(const std::string&, const FileOptions&)>& upgraded) {
  const std::string usage = std::string(tool) + " IN OUT";
  StartTool(&argc, &argv, usage.c_str());
  if (argc != 3)
    return UsageError(tool, Concat("found ", argc - 1, " arguments where two files were expected"));
  return RunTool(tool, nullptr, [&] {
    bool said = false;
    const std::string bytes = upgraded(argv[1], {.say = [&](const std::string& what) {
                                         said = true;
                                         LOG(INFO) << what;
                                       }});
    if (!said) LOG(INFO) << "There is nothing to upgrade in " << argv[1];
    WriteFile(argv[2], bytes);
    LOG(INFO) << "Wrote " << argv[2];
    return 0;
  });
}

}  // namespace crema
