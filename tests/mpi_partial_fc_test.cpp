// The head against one dense softmax over real MPI ranks; run under mpirun -n 1, 2 and 4.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "partial_fc_checks.hpp"

namespace crema {
namespace {

TEST(MpiPartialFC, EqualsADenseSoftmax) {
  int argc = 0;
  char** argv = nullptr;
  const std::unique_ptr<Communicator> comm = NewMpiCommunicator(&argc, &argv);
  int number = 0;
  for (const HeadCase& c : HeadCases()) {
    SCOPED_TRACE(Concat("case ", number++));
    CheckHead(*comm, c);
  }
}

}  // namespace
}  // namespace crema
