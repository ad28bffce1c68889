#pragma once
// What most of our files would otherwise parse again. Not torch/torch.h: its inline modules are instantiated in every file that sees them,
// which triples the time of each.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
