// The command line: options in, exit code out.
#pragma once

namespace switchyard {

/// Everything that the `switchyard` binary does (train, check, eval, generate, export, ...), for a program that adds routing rules of its
/// own before: its main() registers them and returns what this returns. Call it once in a process: it starts MPI. Under a launcher (mpirun,
/// srun) it is Collective: every rank of the job must call it, with the same arguments. Returns the exit code: 0 done; 1 the run failed; 2
/// the input is wrong, a routing rule that is not registered for example; 3 stopped by a signal after saving. Throws nothing: what went
/// wrong is on stderr, and the whole job has been ended.
int run_command_line(int argc, char** argv);

}  // namespace switchyard
