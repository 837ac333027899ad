// SPDX-License-Identifier: Apache-2.0

package worker

//go:generate ../../scripts/generate.sh
