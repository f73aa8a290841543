// rules says what a cluster's API server would say, without a cluster: it is the API server's own
// validation and admission code, called on files.
//
//	rules validate FILE...        every document: known to the API, valid, and its pods fit for a
//	                              namespace under Pod Security `restricted`
//	rules admit POLICIES [KEY=VALUE...] < pod.yaml
//	                              the pod as the admission policies of that file leave it, as JSON, or
//	                              the reason why they refuse it and exit code 3; KEY=VALUE are labels
//	                              of its namespace
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
)

const (
	exitInvalid = 1
	exitUsage   = 2
	exitRefused = 3
)

func main() {
	arguments := os.Args[1:]
	switch {
	case len(arguments) > 1 && arguments[0] == "validate":
		os.Exit(runValidate(arguments[1:]))
	case len(arguments) > 1 && arguments[0] == "admit":
		os.Exit(runAdmit(arguments[1], arguments[2:]))
	}
	fmt.Fprintln(os.Stderr, "usage: rules validate FILE... | rules admit POLICIES [KEY=VALUE...]")
	os.Exit(exitUsage)
}

func runValidate(files []string) int {
	problems, documents := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return exitUsage
		}
		for number, document := range split(text) {
			documents++
			for _, problem := range validate(document) {
				problems++
				fmt.Fprintf(os.Stderr, "%s: document %d: %s\n", file, number+1, problem)
			}
		}
	}
	if problems > 0 || documents == 0 {
		fmt.Fprintf(os.Stderr, "%d documents, %d problems\n", documents, problems)
		return exitInvalid
	}
	fmt.Printf("%d documents are valid\n", documents)
	return 0
}

func runAdmit(policies string, labels []string) int {
	text, err := os.ReadFile(policies)
	if err == nil {
		var pod []byte
		if pod, err = io.ReadAll(os.Stdin); err == nil {
			var admitted runtime.Object
			if admitted, err = admit(split(text), pod, labels); err == nil {
				encoded, _ := json.MarshalIndent(admitted, "", "  ")
				fmt.Println(string(encoded))
				return 0
			}
		}
	}
	fmt.Fprintln(os.Stderr, err)
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return exitRefused
	}
	return exitInvalid
}

// split yields the documents of a YAML stream that hold more than comments, as JSON.
func split(text []byte) [][]byte {
	var documents [][]byte
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var document json.RawMessage
		if err := decoder.Decode(&document); err != nil {
			if err != io.EOF {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(exitInvalid)
			}
			return documents
		}
		if len(document) > 0 && string(document) != "null" {
			documents = append(documents, document)
		}
	}
}
