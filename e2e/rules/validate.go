package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/admissionregistration"
	_ "k8s.io/kubernetes/pkg/apis/admissionregistration/install"
	admissionvalidation "k8s.io/kubernetes/pkg/apis/admissionregistration/validation"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/batch"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	batchvalidation "k8s.io/kubernetes/pkg/apis/batch/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Strict: an unknown or repeated field is an error, as with `kubectl apply --validate=strict`.
var decoder = serializer.NewSerializerWithOptions(
	serializer.DefaultMetaFactory, legacyscheme.Scheme, legacyscheme.Scheme,
	serializer.SerializerOptions{Strict: true})

// decode yields the object in the version that it is written in, with that version's defaults.
func decode(document []byte) (runtime.Object, error) {
	object, _, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return nil, err
	}
	legacyscheme.Scheme.Default(object)
	if metadata, ok := object.(metav1.Object); ok && metadata.GetNamespace() == "" && namespaced(object) {
		metadata.SetNamespace("default")
	}
	return object, nil
}

func namespaced(object runtime.Object) bool {
	kind := object.GetObjectKind().GroupVersionKind()
	return kind.Group != "admissionregistration.k8s.io" && kind.Kind != "Namespace"
}

func internal(object runtime.Object) (runtime.Object, error) {
	group := object.GetObjectKind().GroupVersionKind().Group
	return legacyscheme.Scheme.ConvertToVersion(object, schema.GroupVersion{Group: group, Version: runtime.APIVersionInternal})
}

func validate(document []byte) []string {
	object, err := decode(document)
	if err != nil {
		return []string{err.Error()}
	}
	converted, err := internal(object)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	name := object.GetObjectKind().GroupVersionKind().Kind
	if metadata, ok := object.(metav1.Object); ok {
		name += "/" + metadata.GetName()
	}
	for _, problem := range fieldErrors(converted) {
		problems = append(problems, fmt.Sprintf("%s: %s", name, problem))
	}
	for _, problem := range podSecurity(object) {
		problems = append(problems, fmt.Sprintf("%s: pod security restricted: %s", name, problem))
	}
	return problems
}

func templateOptions(template *core.PodTemplateSpec) corevalidation.PodValidationOptions {
	return podutil.GetValidationOptionsFromPodTemplate(template, nil)
}

func fieldErrors(object runtime.Object) field.ErrorList {
	switch o := object.(type) {
	case *core.Pod:
		return corevalidation.ValidatePodCreate(
			o, podutil.GetValidationOptionsFromPodSpecAndMeta(&o.Spec, nil, &o.ObjectMeta, nil))
	case *core.ConfigMap:
		return corevalidation.ValidateConfigMap(o)
	case *core.Secret:
		return corevalidation.ValidateSecret(o)
	case *core.Service:
		return corevalidation.ValidateServiceCreate(o)
	case *apps.Deployment:
		return appsvalidation.ValidateDeployment(o, templateOptions(&o.Spec.Template))
	case *apps.StatefulSet:
		return appsvalidation.ValidateStatefulSet(o, templateOptions(&o.Spec.Template))
	case *apps.DaemonSet:
		return appsvalidation.ValidateDaemonSet(o, templateOptions(&o.Spec.Template))
	case *batch.Job:
		return batchvalidation.ValidateJob(o, batchvalidation.JobValidationOptions{
			PodValidationOptions: templateOptions(&o.Spec.Template)})
	case *batch.CronJob:
		return batchvalidation.ValidateCronJobCreate(o, templateOptions(&o.Spec.JobTemplate.Spec.Template))
	case *networking.NetworkPolicy:
		return networkingvalidation.ValidateNetworkPolicy(o, networkingvalidation.NetworkPolicyValidationOptions{})
	case *admissionregistration.MutatingAdmissionPolicy:
		return admissionvalidation.ValidateMutatingAdmissionPolicy(o)
	case *admissionregistration.MutatingAdmissionPolicyBinding:
		return admissionvalidation.ValidateMutatingAdmissionPolicyBinding(o)
	case *admissionregistration.ValidatingAdmissionPolicy:
		return admissionvalidation.ValidateValidatingAdmissionPolicy(o)
	case *admissionregistration.ValidatingAdmissionPolicyBinding:
		return admissionvalidation.ValidateValidatingAdmissionPolicyBinding(o)
	}
	return field.ErrorList{field.InternalError(nil, fmt.Errorf("no validation for %T here", object))}
}

// podSecurity asks what a namespace labelled `pod-security.kubernetes.io/enforce: restricted` asks.
func podSecurity(object runtime.Object) []string {
	var metadata *metav1.ObjectMeta
	var spec *corev1.PodSpec
	switch o := object.(type) {
	case *corev1.Pod:
		metadata, spec = &o.ObjectMeta, &o.Spec
	case *appsv1.Deployment:
		metadata, spec = &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	case *appsv1.StatefulSet:
		metadata, spec = &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	case *appsv1.DaemonSet:
		metadata, spec = &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	case *batchv1.Job:
		metadata, spec = &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	case *batchv1.CronJob:
		metadata, spec = &o.Spec.JobTemplate.Spec.Template.ObjectMeta, &o.Spec.JobTemplate.Spec.Template.Spec
	default:
		return nil
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	restricted := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(restricted, metadata, spec) {
		if !result.Allowed {
			problems = append(problems, result.ForbiddenReason+": "+result.ForbiddenDetail)
		}
	}
	return problems
}
