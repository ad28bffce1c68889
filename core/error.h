// The two ways a job can end badly. Everything else that is thrown (c10::Error, std::exception) is a failed run.
#pragma once

#include <stdexcept>
#include <string>

namespace switchyard {

/// The user's input is wrong: configuration, command line, or a data file found bad when it is opened. Exit code 2.
/// The message says the place, what is there, the rule that it breaks and what to do; one line a fault.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The run failed after it had started: data found bad while training, non-finite loss, a dead rank. Exit code 1.
class RunError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A failed run that every rank found alike, from numbers that all of them hold (a non-finite loss): one of them reports it.
class AgreedError : public RunError {
 public:
  using RunError::RunError;
};

}  // namespace switchyard
