// Floor 7. Starting a tool on several ranks of this machine. Included by tools/*.cpp only.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "crema/comm.hpp"
#include "crema/error.hpp"

namespace crema {
namespace launch {

inline volatile sig_atomic_t child = 0;  // mpirun's process, for the handler
inline volatile sig_atomic_t interrupts = 0;

// mpirun ends the job on SIGINT and SIGHUP, but hands SIGUSR1 and SIGUSR2 on to the ranks, which take them
// for the two. A second Ctrl-C ends the job.
inline void PassOn(int signal) {
  const int errno_before = errno;
  if (signal == SIGINT) {
    signal = interrupts == 0 ? SIGUSR1 : SIGTERM;
    interrupts = 1;
  }
  kill(child, signal == SIGHUP ? SIGUSR2 : signal);
  errno = errno_before;
}

[[noreturn]] inline void BecomeMpirun(const std::vector<std::string>& arguments, pid_t parent) {
  setpgid(0, 0);  // a Ctrl-C of the terminal goes to the parent alone
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(1);
  const int null = open("/dev/null", O_RDONLY);
  if (null >= 0) dup2(null, STDIN_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  dprintf(STDERR_FILENO, "cannot start mpirun: %s\n", std::strerror(errno));
  _exit(1);
}

}  // namespace launch

// Runs this program once more with `arguments` on `ranks` ranks and returns its exit code. Each rank gets its
// share of the processors unless OMP_NUM_THREADS says otherwise.
inline int LaunchRanks(int ranks, const std::vector<std::string>& arguments) {
  Require(std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr,
          "--ranks was given to a program that mpirun has started; one of the two was expected");
  Require(!IsTcpRank(),
          "--ranks was given where the environment's RANK and WORLD_SIZE make this process a rank; one "
          "of the two was expected");
  const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / ranks);
  setenv("OMP_NUM_THREADS", std::to_string(threads).c_str(), 0);
  setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
  setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  char self[4096];
  const ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
  Require(length > 0, "cannot find this program's file: ", std::strerror(errno));
  std::vector<std::string> command = {"mpirun",
                                      "-n",
                                      std::to_string(ranks),
                                      "--oversubscribe",
                                      "--bind-to",
                                      "none",
                                      std::string(self, static_cast<size_t>(length))};
  command.insert(command.end(), arguments.begin(), arguments.end());

  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);  // no signal is lost before the child is known
  const pid_t parent = getpid(), child = fork();
  Require(child >= 0, "cannot start mpirun: ", std::strerror(errno));
  if (child == 0) {
    sigprocmask(SIG_SETMASK, &before, nullptr);
    launch::BecomeMpirun(command, parent);
  }
  launch::child = child;
  for (int signal : {SIGINT, SIGHUP, SIGTERM, SIGUSR1, SIGUSR2}) ::signal(signal, launch::PassOn);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace crema
