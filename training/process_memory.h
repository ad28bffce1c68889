// What this process takes of the machine's memory.
#pragma once

namespace switchyard {

/// Bytes in RAM now.
double resident_bytes();
/// The most that there have been.
double peak_resident_bytes();

}  // namespace switchyard
