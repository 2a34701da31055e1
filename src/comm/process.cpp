// Which ranks this process is one of, by the environment that its launcher gave it.
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "crema/comm.hpp"

namespace crema {
namespace {

// The words of the launchers of PyTorch, and of what imitates them.
constexpr const char* kRank = "RANK";
constexpr const char* kSize = "WORLD_SIZE";
constexpr const char* kAddress = "MASTER_ADDR";
constexpr const char* kPort = "MASTER_PORT";

const char* TextOf(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

bool IsSet(const char* name) {
  return *TextOf(name) != '\0';
}

int NumberOf(const char* name, int least, int most) {
  const char* text = TextOf(name);
  int number = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), number);
  Require(error == std::errc() && *end == '\0' && number >= least && number <= most,
          "the environment variable ", name, " is \"", text, "\"; expected a number from ", least, " to ",
          most);
  return number;
}

int Size() {
  constexpr int kMost = 100000;
  return NumberOf(kSize, 1, kMost);
}

}  // namespace

bool IsMpiRank() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_RANK", "PMIX_RANK"})
    if (std::getenv(name) != nullptr) return true;
  return false;
}

bool IsTcpRank() {
  if (IsMpiRank()) return false;
  int count = 0;
  std::string missing;
  for (const char* name : {kRank, kSize, kAddress, kPort}) {
    if (IsSet(name)) {
      ++count;
    } else {
      missing += (missing.empty() ? "" : ", ") + std::string(name);
    }
  }
  // An address alone may stand there for others, and so may one of these words.
  if (count < 2 || (!IsSet(kRank) && !IsSet(kSize))) return false;
  Require(missing.empty(), "the environment lacks ", missing, "; expected all of ", kRank, ", ", kSize, ", ",
          kAddress, " and ", kPort, ", or none");
  const int size = Size();
  NumberOf(kRank, 0, size - 1);
  NumberOf(kPort, 1, 65535);
  return size > 1;
}

std::unique_ptr<Communicator> NewProcessCommunicator(int* argc, char*** argv) {
  if (!IsTcpRank()) return NewMpiCommunicator(argc, argv);
  const int size = Size();
  return NewTcpCommunicator(NumberOf(kRank, 0, size - 1), size, TextOf(kAddress), NumberOf(kPort, 1, 65535));
}

}  // namespace crema
