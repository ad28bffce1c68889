#pragma once
// What every file of ours would otherwise parse again: 20 seconds a file.
#include <ATen/ATen.h>
#include <torch/torch.h>
