/* Names of the reference when it is compiled with CNN_REF_DOUBLE: f32 tensors then hold doubles, and one program can
 * hold both builds. Finite differences need the double one. */
#ifndef CNN_REF_DOUBLE_H
#define CNN_REF_DOUBLE_H

#define cnn_backend_ref cnn_backend_ref64
#define cnn_ref_f16_to_f32 cnn_ref64_f16_to_f32
#define cnn_ref_f16_from_f32 cnn_ref64_f16_from_f32
#define cnn_ref_bf16_to_f32 cnn_ref64_bf16_to_f32
#define cnn_ref_bf16_from_f32 cnn_ref64_bf16_from_f32
#define cnn_ref_get cnn_ref64_get
#define cnn_ref_put cnn_ref64_put
#define cnn_ref_clear_padding cnn_ref64_clear_padding
#define cnn_ref_check cnn_ref64_check
#define cnn_ref_conv_shape cnn_ref64_conv_shape
#define cnn_ref_conv_workspace cnn_ref64_conv_workspace
#define cnn_ref_conv cnn_ref64_conv
#define cnn_ref_conv_dgrad cnn_ref64_conv_dgrad
#define cnn_ref_conv_wgrad cnn_ref64_conv_wgrad
#define cnn_ref_epilogue cnn_ref64_epilogue
#define cnn_ref_bn_train cnn_ref64_bn_train
#define cnn_ref_bn_infer cnn_ref64_bn_infer
#define cnn_ref_bn_grad cnn_ref64_bn_grad
#define cnn_ref_relu cnn_ref64_relu
#define cnn_ref_relu_grad cnn_ref64_relu_grad
#define cnn_ref_clip cnn_ref64_clip
#define cnn_ref_clip_grad cnn_ref64_clip_grad
#define cnn_ref_leaky_relu cnn_ref64_leaky_relu
#define cnn_ref_leaky_relu_grad cnn_ref64_leaky_relu_grad
#define cnn_ref_dropout cnn_ref64_dropout
#define cnn_ref_concat cnn_ref64_concat
#define cnn_ref_concat_grad cnn_ref64_concat_grad
#define cnn_ref_maxpool cnn_ref64_maxpool
#define cnn_ref_pool_gradient cnn_ref64_pool_gradient
#define cnn_ref_maxpool_grad cnn_ref64_maxpool_grad
#define cnn_ref_add cnn_ref64_add
#define cnn_ref_input cnn_ref64_input
#define cnn_ref_input_workspace cnn_ref64_input_workspace
#define cnn_ref_loss cnn_ref64_loss
#define cnn_ref_requantize cnn_ref64_requantize
#define cnn_ref_dequantize cnn_ref64_dequantize
#define cnn_ref_grad_stats cnn_ref64_grad_stats
#define cnn_ref_sgd cnn_ref64_sgd
#define cnn_ref_grid cnn_ref64_grid
#define cnn_ref_grid_grad cnn_ref64_grid_grad
#define cnn_ref_bn_update cnn_ref64_bn_update
#define cnn_ref_loss_scale cnn_ref64_loss_scale

#endif
