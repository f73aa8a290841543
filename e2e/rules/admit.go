package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/policy/mutating"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/client-go/discovery"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/openapi"
	"k8s.io/client-go/openapi/openapitest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

const namespaceName = "applications"

// The clients that the plugins ask: an object store in memory, and the schemas of the built-in
// kinds that client-go ships.
type client struct{ kubernetes.Interface }

type schemas struct{ discovery.DiscoveryInterface }

func (c client) Discovery() discovery.DiscoveryInterface { return schemas{c.Interface.Discovery()} }
func (schemas) OpenAPIV3() openapi.Client                { return openapitest.NewEmbeddedFileClient() }

// plugin is what both admission plugins have in common.
type plugin interface {
	SetEnabled(bool)
	SetExternalKubeInformerFactory(informers.SharedInformerFactory)
	SetExternalKubeClientSet(kubernetes.Interface)
	SetRESTMapper(meta.RESTMapper)
	SetDrainedNotification(<-chan struct{})
	ValidateInitialization() error
	WaitForReady() bool
}

func admit(policies [][]byte, podDocument []byte, labels []string) (runtime.Object, error) {
	documents := split(podDocument)
	if len(documents) != 1 {
		return nil, fmt.Errorf("one pod is wanted, got %d documents", len(documents))
	}
	object, err := decode(documents[0])
	if err != nil {
		return nil, err
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil, fmt.Errorf("a Pod is wanted, got %T", object)
	}
	pod.Namespace = namespaceName

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespaceName, Labels: map[string]string{"kubernetes.io/metadata.name": namespaceName}}}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		namespace.Labels[key] = value
	}
	store := []runtime.Object{namespace}
	for _, document := range policies {
		policy, err := asV1(document)
		if err != nil {
			return nil, err
		}
		store = append(store, policy)
	}

	stop := make(chan struct{})
	defer close(stop)
	objects := fake.NewClientset(store...)
	clients := client{objects}
	factory := informers.NewSharedInformerFactory(objects, 0)
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion})
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace)

	mutator, err := mutating.NewPlugin(nil)
	if err != nil {
		return nil, err
	}
	validator, err := validating.NewPlugin(nil)
	if err != nil {
		return nil, err
	}
	allow := authorizerfactory.NewAlwaysAllowAuthorizer()
	mutator.SetAuthorizer(allow)
	validator.SetAuthorizer(allow)
	mutator.SetDynamicClient(dynamicfake.NewSimpleDynamicClient(legacyscheme.Scheme))
	validator.SetDynamicClient(dynamicfake.NewSimpleDynamicClient(legacyscheme.Scheme))
	for _, p := range []plugin{mutator, validator} {
		p.SetEnabled(true)
		p.SetExternalKubeInformerFactory(factory)
		p.SetExternalKubeClientSet(clients)
		p.SetRESTMapper(mapper)
		p.SetDrainedNotification(stop)
		if err := p.ValidateInitialization(); err != nil {
			return nil, err
		}
	}
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	for _, p := range []plugin{mutator, validator} {
		if !p.WaitForReady() {
			return nil, fmt.Errorf("%T is not ready", p)
		}
	}

	converted, err := internal(pod)
	if err != nil {
		return nil, err
	}
	interfaces := admission.NewObjectInterfacesFromScheme(legacyscheme.Scheme)
	attributes := func() admission.Attributes {
		return admission.NewAttributesRecord(converted, nil, corev1.SchemeGroupVersion.WithKind("Pod"),
			namespaceName, pod.Name, corev1.SchemeGroupVersion.WithResource("pods"), "", admission.Create,
			&metav1.CreateOptions{}, false, &user.DefaultInfo{Name: "somebody"})
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// Twice, as the API server does when another plugin changed the pod in between: the second time
	// must change nothing.
	for range 2 {
		if err := mutator.Admit(ctx, attributes(), interfaces); err != nil {
			return nil, err
		}
	}
	if err := validator.Validate(ctx, attributes(), interfaces); err != nil {
		return nil, err
	}
	return legacyscheme.Scheme.ConvertToVersion(converted, corev1.SchemeGroupVersion)
}

// asV1 reads a policy in the version that it is written in and yields it as the API server keeps it.
func asV1(document []byte) (runtime.Object, error) {
	object, err := decode(document)
	if err != nil {
		return nil, err
	}
	converted, err := internal(object)
	if err != nil {
		return nil, err
	}
	group := object.GetObjectKind().GroupVersionKind().Group
	return legacyscheme.Scheme.ConvertToVersion(converted, schema.GroupVersion{Group: group, Version: "v1"})
}
