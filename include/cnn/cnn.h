/* cnnkit: everything the library offers. */
#ifndef CNN_CNN_H
#define CNN_CNN_H

#include "cnn/backend.h"
#include "cnn/dataset.h"
#include "cnn/half.h"
#include "cnn/model.h"
#include "cnn/onnx.h"
#include "cnn/ops.h"
#include "cnn/optimize.h"
#include "cnn/picture.h"
#include "cnn/quant.h"
#include "cnn/robust.h"
#include "cnn/safetensors.h"
#include "cnn/session.h"
#include "cnn/sign.h"
#include "cnn/status.h"
#include "cnn/tensor.h"
#include "cnn/train.h"

#endif
