// Floor 7. What every tool does around its work: logging as Caffe logs, flags, and errors as one line and
// exit code
// 1. Included by tools/*.cpp only.
#pragma once

#include <gflags/gflags.h>
#include <glog/logging.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "crema/comm.hpp"
#include "crema/error.hpp"

namespace crema {

// Threads that wait for others at the end of a parallel loop sleep, unless the environment says otherwise:
// where the processors have more to do, and be it decoding the next batch, spinning takes time from those who
// still work. The OpenMP library reads this when a process starts, so this process starts again.
inline void LetWaitingThreadsSleep(char** argv) {
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"})
    if (std::getenv(name) != nullptr) return;
  setenv("OMP_WAIT_POLICY", "passive", 1);
  execv("/proc/self/exe", argv);  // where that fails, they spin
}

// Parses the flags (one dash or two) and starts logging to stderr with Caffe's prefix, "I0210 13:39:22.381027
// 25210 file.cpp:112] ", which has no year. An unknown flag ends the process with code 1.
inline void StartTool(int* argc, char*** argv, const char* usage) {
  FLAGS_logtostderr = true;
  FLAGS_log_year_in_prefix = false;
  gflags::SetUsageMessage(usage);
  gflags::ParseCommandLineFlags(argc, argv, true);
  google::InitGoogleLogging((*argv)[0]);
}

// The parts of a list, empty ones left out.
inline std::vector<std::string> SplitAt(char separator, const std::string& list) {
  std::vector<std::string> parts;
  std::istringstream in(list);
  for (std::string part; std::getline(in, part, separator);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

// For what a library call has to say: prints "evaluate: note: ..." on stderr.
inline std::function<void(const std::string&)> PrintNote(const char* tool) {
  return [tool](const std::string& note) { std::fprintf(stderr, "%s: note: %s\n", tool, note.c_str()); };
}

// "train: message" on one line of stderr.
inline void PrintError(const char* tool, std::string message) {
  for (char& c : message)
    if (c == '\n') c = ' ';
  std::fprintf(stderr, "%s: %s\n", tool, message.c_str());
}

// Prints the usage and what is wrong with it; returns exit code 1.
inline int UsageError(const char* tool, const std::string& message) {
  std::fprintf(stderr, "usage: %s\n", gflags::ProgramUsage());
  PrintError(tool, message);
  return 1;
}

// Runs `body` and returns the exit code: its own, or 1 after an error, whose sentence it prints. `comm` may
// be null; with several ranks a failure ends the whole job. Ranks mostly fail alike, so the others leave the
// root the time to speak for all.
inline int RunTool(const char* tool, Communicator* comm, const std::function<int()>& body) {
  std::string message;
  try {
    return body();
  } catch (const std::bad_alloc&) {
    message = "there is not enough memory";
  } catch (const std::exception& error) {
    message = error.what();
  }
  if (comm == nullptr || comm->size() == 1) {
    PrintError(tool, message);
    return 1;
  }
  if (!comm->root()) std::this_thread::sleep_for(std::chrono::milliseconds(500));
  comm->Abort(Concat(tool, ": rank ", comm->rank(), ": ", message));
  return 1;
}

}  // namespace crema
